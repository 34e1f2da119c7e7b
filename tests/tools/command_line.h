// Parsing a tool's command line in its tests.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>
#include <vector>

#include "base/settings.h"

namespace lukv {

// A tool with its parser: int, const char* const* -> std::variant<Options, ExitRequest>.
template <typename Options>
class CommandLine {
 public:
  using Outcome = std::variant<Options, ExitRequest>;
  CommandLine(const char* program, Outcome (*parse)(int, const char* const*)) : program_(program), parse_(parse) {}

  Outcome Parse(std::vector<const char*> arguments) const {
    arguments.insert(arguments.begin(), program_);
    return parse_(static_cast<int>(arguments.size()), arguments.data());
  }
  Options Parsed(const std::vector<const char*>& arguments) const {
    const Outcome parsed = Parse(arguments);
    const auto* exit = std::get_if<ExitRequest>(&parsed);
    EXPECT_EQ(exit, nullptr) << exit->text;
    return exit == nullptr ? std::get<Options>(parsed) : Options();
  }
  void ExpectRefused(const std::vector<const char*>& arguments, const std::string& words) const {
    const Outcome parsed = Parse(arguments);
    const auto* exit = std::get_if<ExitRequest>(&parsed);
    ASSERT_NE(exit, nullptr) << words;
    EXPECT_EQ(exit->code, 2);
    EXPECT_THAT(exit->text, testing::HasSubstr(words));
  }

 private:
  const char* const program_;
  Outcome (*const parse_)(int, const char* const*);
};

}  // namespace lukv
