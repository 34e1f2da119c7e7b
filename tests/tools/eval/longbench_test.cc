#include "tools/eval/longbench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace lukv {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class LongBench : public testing::Test {
 protected:
  LongBench() {
    folder_ = testing::TempDir() + "/longbench-" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  ~LongBench() override { std::filesystem::remove_all(folder_); }

  void Write(std::string_view task, const std::string& text) {
    std::ofstream(folder_ + "/" + std::string(task) + ".jsonl", std::ios::binary) << text;
  }
  std::string Error(const std::string& line) {
    Write("trec", line);
    return std::string(ReadLongBench(folder_, "trec", 5).status().message());
  }

  std::string folder_;
};

std::string Line(const std::string& context) {
  return nlohmann::json{{"input", "Who?"}, {"context", context}, {"answers", {"me", "I"}}, {"all_classes", {"x", "y"}},
                        {"length", 12},    {"dataset", "any"},   {"language", "en"},       {"_id", "abc"}}
             .dump() +
         "\n";
}

TEST_F(LongBench, EveryTaskPutsTheContextFirstAndTheQuestionLast) {
  EXPECT_EQ(LongBenchTaskNames().size(), 16u);
  for (const std::string_view task : LongBenchTaskNames()) {
    Write(task, Line("Long text."));
    const auto samples = ReadLongBench(folder_, task, 5);
    ASSERT_TRUE(samples.ok()) << samples.status();
    ASSERT_EQ(samples->size(), 1u);
    const EvalSample& sample = samples->front();
    EXPECT_TRUE(sample.context.ends_with("Long text.")) << task;
    EXPECT_EQ(sample.context.find("Who?"), std::string::npos) << task;
    EXPECT_EQ(sample.question.find("Long text."), std::string::npos) << task;
    const bool asks = task != "gov_report" && task != "multi_news" && task != "passage_count" && task != "lcc";
    EXPECT_EQ(sample.question.find("Who?") != std::string::npos, asks) << task;
    EXPECT_EQ((sample.context + sample.question).find('{'), std::string::npos) << task;
    EXPECT_THAT(sample.references, ElementsAre("me", "I"));
  }
}

TEST_F(LongBench, AnswersHaveThePublishedLengths) {
  std::vector<int32_t> lengths;
  for (const std::string_view task : LongBenchTaskNames()) {
    Write(task, Line("Text"));
    lengths.push_back(ReadLongBench(folder_, task, 1)->front().max_new_tokens);
  }
  EXPECT_THAT(lengths, ElementsAre(128, 128, 64, 32, 32, 32, 512, 512, 512, 64, 32, 128, 32, 32, 64, 64));
}

TEST_F(LongBench, ReadsNoFurtherThanAsked) {
  Write("trec", "\n" + Line("1") + "  \r\n" + Line("2") + Line("3") + "not JSON\n");
  const auto samples = ReadLongBench(folder_, "trec", 3);
  ASSERT_TRUE(samples.ok()) << samples.status();
  EXPECT_EQ(samples->size(), 3u);
  EXPECT_TRUE(samples->back().context.ends_with("3"));
  EXPECT_THAT(samples->back().classes, ElementsAre("x", "y"));
  EXPECT_THAT(ReadLongBench(folder_, "trec", 4).status().message(), HasSubstr("trec.jsonl:6: not valid JSON"));
}

TEST_F(LongBench, PlaceholdersInTheDataStay) {
  Write("hotpotqa", Line("{input} {context}"));
  EXPECT_TRUE(ReadLongBench(folder_, "hotpotqa", 1)->front().context.ends_with("{input} {context}"));
}

TEST_F(LongBench, RefusesLinesThatAreNoSamples) {
  EXPECT_THAT(Error("[]"), HasSubstr("trec.jsonl:1.context is missing"));
  EXPECT_THAT(Error("7"), HasSubstr("context is missing"));
  EXPECT_THAT(Error(R"({"context": 3})"), HasSubstr("context is 3, not a string"));
  EXPECT_THAT(Error(R"({"context": "", "input": ""})"), HasSubstr("answers is missing"));
  EXPECT_THAT(Error(R"({"context": "", "input": "", "answers": "x"})"), HasSubstr("answers is \"x\", not an array"));
  EXPECT_THAT(Error(R"({"context": "", "input": "", "answers": []})"), HasSubstr("answers is empty"));
  EXPECT_THAT(Error(R"({"context": "", "input": "", "answers": [null]})"), HasSubstr("answers holds null"));
  EXPECT_THAT(Error(R"({"context": "", "input": "", "answers": ["x"]})"), HasSubstr("all_classes is missing"));
  EXPECT_THAT(Error(R"({"context": "", "input": "", "answers": ["x"], "all_classes": null})"),
              HasSubstr("all_classes is missing"));
  EXPECT_THAT(Error(R"({"context": "a", "context": "b"})"), HasSubstr("there twice"));
  EXPECT_THAT(Error(std::string(100000, '[')), HasSubstr("nested"));
  EXPECT_THAT(Error("{\"context\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(Error(R"({"context": "cut of)"), HasSubstr("not valid JSON"));
  EXPECT_THAT(Error("\n\n"), HasSubstr("no samples"));
}

TEST_F(LongBench, NamesWhatIsNotThere) {
  EXPECT_THAT(ReadLongBench(folder_, "qasper", 1).status().message(), HasSubstr("qasper.jsonl"));
  EXPECT_EQ(ReadLongBench(folder_, "qasper", 1).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(ReadLongBench(folder_, "../trec", 1).status().message(), HasSubstr("no LongBench task"));
}

}  // namespace
}  // namespace lukv
