// Where in a kernel's source something was called.
#pragma once

#include <source_location>

namespace lukv::emulator {

using Site = std::source_location;

}  // namespace lukv::emulator
