// The published protocols: our descriptors say what tests/golden/gateway/descriptors.txt says of theirs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/descriptor.h"
#include "vllm_engine.pb.h"

namespace lukv {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

std::string FieldLine(const FieldDescriptor& field) {
  const Descriptor* message = field.message_type();
  const EnumDescriptor* values = field.enum_type();
  const std::string of = message != nullptr ? message->full_name() : values != nullptr ? values->full_name() : "-";
  const std::string oneof = field.containing_oneof() != nullptr ? field.containing_oneof()->name() : "-";
  return absl::StrJoin(
      {std::string("field"), field.full_name(), absl::StrCat(field.number()),
       std::string(field.is_repeated() ? "repeated" : "single"), std::string(field.type_name()), of, oneof},
      " ");
}

std::set<std::string> LinesOf(const google::protobuf::ServiceDescriptor& service) {
  std::set<std::string> lines;
  std::set<const Descriptor*> seen;
  std::vector<const Descriptor*> todo;
  for (int i = 0; i < service.method_count(); ++i) {
    const auto& method = *service.method(i);
    EXPECT_FALSE(method.client_streaming());
    lines.insert(absl::StrCat("method ", method.full_name(), " ", method.input_type()->full_name(), " ",
                              method.output_type()->full_name(), method.server_streaming() ? " stream" : " unary"));
    todo.insert(todo.end(), {method.input_type(), method.output_type()});
  }
  while (!todo.empty()) {
    const Descriptor* message = todo.back();
    todo.pop_back();
    if (!seen.insert(message).second) continue;
    lines.insert(absl::StrCat("message ", message->full_name()));
    for (int i = 0; i < message->field_count(); ++i) {
      const FieldDescriptor& field = *message->field(i);
      lines.insert(FieldLine(field));
      if (field.message_type() != nullptr) todo.push_back(field.message_type());
      const EnumDescriptor* values = field.enum_type();
      for (int v = 0; values != nullptr && v < values->value_count(); ++v) {
        lines.insert(absl::StrCat("value ", values->full_name(), " ", values->value(v)->name(), " ",
                                  values->value(v)->number()));
      }
    }
  }
  return lines;
}

TEST(Descriptors, AreThePublishedOnes) {
  std::set<std::string> published;
  std::ifstream file(LUKV_TEST_DATA "/golden/gateway/descriptors.txt");
  for (std::string line; std::getline(file, line);) published.insert(line);
  ASSERT_GT(published.size(), 300u);
  const auto* service = vllm::grpc::engine::GenerateRequest::descriptor()->file()->FindServiceByName("VllmEngine");
  ASSERT_NE(service, nullptr);
  EXPECT_THAT(LinesOf(*service), testing::ContainerEq(published));
}

}  // namespace
}  // namespace lukv
