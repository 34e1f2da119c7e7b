// Where files that come with the programs are found: the same for an installation and a build folder.
#pragma once

#include <string>
#include <string_view>

namespace lukv {

// DIR/PATH for a program in DIR/bin. Not looked up.
std::string InstallationPath(std::string_view path);

// DIR/share/lukv/NAME.
std::string ShareFolder(std::string_view name);

}  // namespace lukv
