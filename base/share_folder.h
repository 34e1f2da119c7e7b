// Where files that come with the programs are found.
#pragma once

#include <string>
#include <string_view>

namespace lukv {

// DIR/share/lukv/NAME for a program in DIR/bin: the same for an installation and a build folder. Not looked up.
std::string ShareFolder(std::string_view name);

}  // namespace lukv
