#include "tools/eval/longbench.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "base/check.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/checked_json.h"
#include "engine/tokenizer/json_fields.h"
#include "tools/eval/json_strings.h"

namespace lukv {
namespace {

// {context} and {input} stand for the fields of a line. The context's part is compressed; the question follows it.
struct Task {
  Metric metric;
  int32_t max_new_tokens;
  std::string_view context;
  std::string_view question;
  bool first_line_only = false;
  bool never_chat = false;  // The published runner puts no chat template around these.
};

constexpr std::string_view kNames[] = {"narrativeqa",
                                       "qasper",
                                       "multifieldqa_en",
                                       "hotpotqa",
                                       "2wikimqa",
                                       "musique",
                                       "gov_report",
                                       "qmsum",
                                       "multi_news",
                                       "trec",
                                       "triviaqa",
                                       "samsum",
                                       "passage_count",
                                       "passage_retrieval_en",
                                       "lcc",
                                       "repobench-p"};

constexpr Task PassageQa() {
  return {.metric = Metric::kTokenF1,
          .max_new_tokens = 32,
          .context =
              "Answer the question from the given passages. Give only the answer and no other words.\n\n"
              "These are the passages.\n{context}",
          .question =
              "\n\nAnswer the question from the passages above. Give only the answer and no other words.\n\n"
              "Question: {input}\nAnswer:"};
}

// In the order of kNames.
constexpr Task kTasks[] = {
    {.metric = Metric::kTokenF1,
     .max_new_tokens = 128,
     .context =
         "Here is a story, from a novel or a film script, and a question about it. Answer as briefly as you can, "
         "in one phrase if possible. Explain nothing.\n\nStory: {context}",
     .question =
         "\n\nNow answer the question about the story as briefly as you can, in one phrase if possible. Explain "
         "nothing.\n\nQuestion: {input}\n\nAnswer:"},
    {.metric = Metric::kTokenF1,
     .max_new_tokens = 128,
     .context = "Here is a scientific article and a question about it. Answer as briefly as you can, in one phrase or "
                "sentence. If the article does not say, write \"unanswerable\". A question that asks for yes or no is "
                "answered by \"yes\", \"no\" or \"unanswerable\". Explain nothing.\n\nArticle: {context}",
     .question = "\n\nAnswer the question about the article above as briefly as you can, in one phrase or sentence. If "
                 "the article does not say, write \"unanswerable\". A question that asks for yes or no is answered by "
                 "\"yes\", \"no\" or \"unanswerable\". Explain nothing.\n\nQuestion: {input}\n\nAnswer:"},
    {.metric = Metric::kTokenF1,
     .max_new_tokens = 64,
     .context = "Read the text and answer briefly.\n\n{context}",
     .question = "\n\nNow answer the question from the text above. Give only the answer and no other words.\n\n"
                 "Question: {input}\nAnswer:"},
    PassageQa(),
    PassageQa(),
    PassageQa(),
    {.metric = Metric::kRougeL,
     .max_new_tokens = 512,
     .context = "Here is a report of a government agency. Write a summary of one page.\n\nReport:\n{context}",
     .question = "\n\nNow write a summary of the report, one page long.\n\nSummary:"},
    {.metric = Metric::kRougeL,
     .max_new_tokens = 512,
     .context = "Here is the transcript of a meeting, and a question or request about it. Answer in one or more "
                "sentences.\n\nTranscript:\n{context}",
     .question = "\n\nNow answer from the transcript above in one or more sentences.\n\nQuery: {input}\nAnswer:"},
    {.metric = Metric::kRougeL,
     .max_new_tokens = 512,
     .context = "Here are several news articles. Write a summary of all of them, one page long.\n\nNews:\n{context}",
     .question = "\n\nNow write a summary of all the news, one page long.\n\nSummary:"},
    {.metric = Metric::kClassification,
     .max_new_tokens = 64,
     .context =
         "Say of which type the last question is. Examples of questions and their types come first.\n\n{context}",
     .question = "\n{input}",
     .first_line_only = true,
     .never_chat = true},
    {.metric = Metric::kTokenF1,
     .max_new_tokens = 32,
     .context = "Answer the question from the given passage. Give only the answer and no other words. Some examples "
                "come first.\n\n{context}",
     .question = "\n\n{input}",
     .first_line_only = true,
     .never_chat = true},
    {.metric = Metric::kRougeL,
     .max_new_tokens = 128,
     .context = "Sum up the dialogue in a few short sentences. Some examples come first.\n\n{context}",
     .question = "\n\n{input}",
     .first_line_only = true,
     .never_chat = true},
    {.metric = Metric::kCount,
     .max_new_tokens = 32,
     .context =
         "Below are paragraphs from Wikipedia. Some of them may be there more than once. Read them with care and "
         "find out how many different paragraphs there are.\n\n{context}",
     .question =
         "\n\nHow many different paragraphs are there, when each is counted once? Give only the number, like 1, "
         "2 or 3.\n\nThe final answer is:"},
    {.metric = Metric::kRetrieval,
     .max_new_tokens = 32,
     .context = "Here are 30 paragraphs from Wikipedia, and a summary of one of them. Find out which one it is of.\n\n"
                "{context}",
     .question =
         "\n\nThis is the summary.\n\n{input}\n\nGive the number of the paragraph that the summary is of, in the "
         "form \"Paragraph 1\", \"Paragraph 2\".\n\nThe answer is:"},
    {.metric = Metric::kCodeSimilarity,
     .max_new_tokens = 64,
     .context = "Complete the code below.\n{context}",
     .question = "Next line of code:\n",
     .never_chat = true},
    {.metric = Metric::kCodeSimilarity,
     .max_new_tokens = 64,
     .context = "Complete the code below.\n{context}",
     .question = "{input}Next line of code:\n",
     .never_chat = true},
};
static_assert(std::size(kNames) == std::size(kTasks));

std::string Fill(std::string_view format, const std::string& context, const std::string& input) {
  return absl::StrReplaceAll(std::string(format), {{"{context}", context}, {"{input}", input}});
}

absl::StatusOr<EvalSample> ParseSample(const Task& task, std::string_view line, const char* where) {
  absl::StatusOr<nlohmann::json> json = ParseCheckedJson(line);
  if (!json.ok()) return absl::InvalidArgumentError(absl::StrCat(where, ": ", json.status().message()));
  LUKV_ASSIGN_OR_RETURN(const std::string context, GetString(*json, "context", where));
  LUKV_ASSIGN_OR_RETURN(const std::string input, GetString(*json, "input", where));
  EvalSample sample{.context = Fill(task.context, context, input),
                    .question = Fill(task.question, context, input),
                    .metric = task.metric,
                    .max_new_tokens = task.max_new_tokens,
                    .first_line_only = task.first_line_only,
                    .never_chat = task.never_chat};
  LUKV_ASSIGN_OR_RETURN(sample.references, GetStrings(*json, "answers", where));
  if (sample.references.empty()) return absl::InvalidArgumentError(StrCat(where, ".answers is empty"));
  if (task.metric == Metric::kClassification) {
    LUKV_ASSIGN_OR_RETURN(sample.classes, GetStrings(*json, "all_classes", where));
  }
  return sample;
}

}  // namespace

std::span<const std::string_view> LongBenchTaskNames() { return kNames; }

absl::StatusOr<std::vector<EvalSample>> ReadLongBench(const std::string& folder, std::string_view task, int32_t limit) {
  const std::string_view* const found = std::find(std::begin(kNames), std::end(kNames), task);
  if (found == std::end(kNames)) return absl::InvalidArgumentError(StrCat("no LongBench task ", Quoted(task)));
  const std::string path = StrCat(folder, "/", task, ".jsonl");
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(StrCat("cannot read ", path));
  std::vector<EvalSample> samples;
  std::string line;
  for (int64_t number = 1; static_cast<int32_t>(samples.size()) < limit && std::getline(file, line); ++number) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    LUKV_ASSIGN_OR_RETURN(EvalSample sample,
                          ParseSample(kTasks[found - std::begin(kNames)], line, StrCat(path, ":", number).c_str()));
    samples.push_back(std::move(sample));
  }
  if (samples.empty()) return absl::InvalidArgumentError(StrCat(path, ": no samples"));
  return samples;
}

}  // namespace lukv
