#include "tools/eval/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

TEST(ParseTasks, NamesAndGroups) {
  EXPECT_THAT(*ParseTasks({"qa_1", "niah_single_2", "nll"}), ElementsAre("qa_1", "niah_single_2", "nll"));
  EXPECT_THAT(*ParseTasks({"needle"}), SizeIs(8));
  EXPECT_EQ(ParseTasks({"needle"})->back(), "niah_multiquery");
  EXPECT_THAT(*ParseTasks({"ruler"}), SizeIs(13));
  EXPECT_THAT(*ParseTasks({"longbench"}), SizeIs(16));
  EXPECT_THAT(*ParseTasks({"vt", "ruler", "needle"}), SizeIs(13));  // Each once.
  EXPECT_EQ(ParseTasks({"vt", "ruler"})->front(), "vt");
}

TEST(ParseTasks, RefusesOtherNames) {
  EXPECT_THAT(ParseTasks({"vt", "niah"}).status().message(), HasSubstr("no task \"niah\""));
  EXPECT_FALSE(ParseTasks({}).ok());
  EXPECT_FALSE(ParseTasks({""}).ok());
}

TEST(Tasks, KindsAndPlotGroups) {
  EXPECT_EQ(KindOf("vt"), TaskKind::kRuler);
  EXPECT_EQ(KindOf("trec"), TaskKind::kLongBench);
  EXPECT_EQ(KindOf("nll"), TaskKind::kNll);
  std::set<std::string_view> groups;
  const std::vector<std::string> all = *ParseTasks({"ruler", "longbench", "nll"});
  for (const std::string& task : all) groups.insert(PlotGroup(task));
  EXPECT_THAT(groups, ElementsAre("longbench", "niah", "nll", "qa", "vt_cwe_fwe"));
}

}  // namespace
}  // namespace lukv
