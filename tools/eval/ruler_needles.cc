// Needles in a haystack: the niah tasks.
#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/str_cat.h"
#include "tools/eval/ruler_tasks.h"

namespace lukv {
namespace {

constexpr int32_t kDepths = 40;

std::string DrawUuid(Random& random) {
  const uint64_t high = (random.Bits() & ~uint64_t{0xf000}) | 0x4000;                 // Version 4,
  const uint64_t low = (random.Bits() & ~(uint64_t{3} << 62)) | (uint64_t{2} << 62);  // variant 1 (RFC 4122).
  return absl::StrFormat("%08x-%04x-%04x-%04x-%012x", high >> 32, (high >> 16) & 0xffff, high & 0xffff, low >> 48,
                         low & 0xffffffffffff);
}

std::string DrawOne(NeedleKind kind, const EvalText& text, Random& random) {
  switch (kind) {
    case NeedleKind::kNumber:
      return StrCat(random.Between(1000000, 9999999));
    case NeedleKind::kUuid:
      return DrawUuid(random);
    case NeedleKind::kWord:
      break;
  }
  const std::string& adjective = text.adjectives[random.Below(text.adjectives.size())];
  return StrCat(adjective, "-", text.nouns[random.Below(text.nouns.size())]);
}

// Keys and values that were not drawn before.
class Drawer {
 public:
  Drawer(const EvalText& text, Random random) : text_(&text), random_(random) {}

  std::string Draw(NeedleKind kind) {
    while (true) {
      std::string drawn = DrawOne(kind, *text_, random_);
      if (seen_.insert(drawn).second) return drawn;
    }
  }

 private:
  const EvalText* text_;
  Random random_;
  std::set<std::string> seen_;
};

const char* TypeName(NeedleKind kind) {
  return kind == NeedleKind::kNumber ? "number" : kind == NeedleKind::kUuid ? "uuid" : "word";
}

std::string Needle(NeedleKind kind, const std::string& key, const std::string& value) {
  return StrCat("One of the special magic ", TypeName(kind), "s for ", key, " is: ", value, ".");
}

// "a", "a, and b", "a, b, and c"
std::string Listed(std::vector<std::string> items) {
  if (items.size() > 1) items.back() = StrCat("and ", items.back());
  return absl::StrJoin(items, ", ");
}

// What stays the same whatever the size.
struct Needles {
  NeedleTask task;
  const EvalText* text = nullptr;
  std::vector<std::string> needles;  // In the order of their depths.
  std::vector<int32_t> depths;
  size_t first_sentence = 0;  // Of the essays.
  Drawer distractors;         // Copied for each size.
  EvalSample sample;          // Without its context.
};

// The haystack's `size` pieces.
std::vector<std::string> Haystack(const Needles& needles, int32_t size) {
  const EvalText& text = *needles.text;
  std::vector<std::string> pieces;
  Drawer distractors = needles.distractors;
  for (size_t i = 0; i < static_cast<size_t>(size); ++i) {
    switch (needles.task.haystack) {
      case NeedleHaystack::kNoise:
        pieces.push_back(text.noise);
        break;
      case NeedleHaystack::kEssays:
        pieces.push_back(text.essay_sentences[(needles.first_sentence + i) % text.essay_sentences.size()]);
        break;
      case NeedleHaystack::kNeedles: {
        const std::string key = distractors.Draw(needles.task.key);
        pieces.push_back(Needle(needles.task.value, key, distractors.Draw(needles.task.value)));
        break;
      }
    }
  }
  return pieces;
}

std::string Context(const Needles& needles, int32_t size) {
  const std::vector<std::string> haystack = Haystack(needles, size);
  std::vector<std::string> pieces;
  size_t next = 0;
  for (size_t i = 0; i <= haystack.size(); ++i) {
    while (next < needles.needles.size() && DepthIndex(needles.depths[next], haystack.size()) == i) {
      pieces.push_back(needles.needles[next++]);
    }
    if (i < haystack.size()) pieces.push_back(haystack[i]);
  }
  const std::string type = TypeName(needles.task.value);
  const std::string intro =
      needles.sample.references.size() == 1
          ? StrCat("A special magic ", type, " is hidden in the text below. Remember it: you will be asked for it.")
          : StrCat("Some special magic ", type,
                   "s are hidden in the text below. Remember them: you will be asked for "
                   "them.");
  return StrCat(intro, "\n\n", absl::StrJoin(pieces, needles.task.haystack == NeedleHaystack::kEssays ? " " : "\n"));
}

void Ask(const std::vector<std::string>& keys, EvalSample& sample, const NeedleTask& task) {
  const std::string type = TypeName(task.value);
  const std::string query = Listed(keys);
  if (sample.references.size() == 1) {
    sample.question =
        StrCat("\n\nWhat is the special magic ", type, " for ", query, " mentioned in the provided text?");
    sample.answer_prefix = StrCat("The special magic ", type, " for ", query, " mentioned in the provided text is");
  } else {
    sample.question =
        StrCat("\n\nWhat are all the special magic ", type, "s for ", query, " mentioned in the provided text?");
    sample.answer_prefix = StrCat("The special magic ", type, "s for ", query, " mentioned in the provided text are");
  }
  sample.max_new_tokens = 128;
}

}  // namespace

std::vector<int32_t> DrawDepths(int32_t n, Random& random) {
  LUKV_CHECK(n <= kDepths);
  std::vector<int32_t> depths;
  depths.reserve(kDepths);
  for (int32_t i = 0; i < kDepths; ++i) {
    depths.push_back(static_cast<int32_t>(std::lround(i * 100.0 / (kDepths - 1))));
  }
  random.Shuffle(depths);
  depths.resize(static_cast<size_t>(n));
  std::sort(depths.begin(), depths.end());
  return depths;
}

size_t DepthIndex(int32_t depth, size_t items) { return items * static_cast<size_t>(depth) / 100; }

SampleFamily NeedleFamily(const NeedleTask& task, const EvalText& text, Random random) {
  LUKV_CHECK(task.queries <= task.keys);
  Drawer drawer(text, Random(random.Bits()));
  std::vector<std::string> asked, needles;
  EvalSample sample;
  for (int32_t k = 0; k < task.keys; ++k) {
    const std::string key = drawer.Draw(task.key);
    if (k < task.queries) asked.push_back(key);
    for (int32_t v = 0; v < task.values_per_key; ++v) {
      const std::string value = drawer.Draw(task.value);
      if (k < task.queries) sample.references.push_back(value);
      needles.push_back(Needle(task.value, key, value));
    }
  }
  random.Shuffle(needles);
  std::vector<int32_t> depths = DrawDepths(static_cast<int32_t>(needles.size()), random);
  Ask(asked, sample, task);
  auto state = std::make_shared<const Needles>(Needles{
      .task = task,
      .text = &text,
      .needles = std::move(needles),
      .depths = std::move(depths),
      .first_sentence = text.essay_starts[random.Below(text.essay_starts.size())],
      .distractors = std::move(drawer),
      .sample = std::move(sample),
  });
  const auto build = [state](int32_t size) {
    EvalSample built = state->sample;
    built.context = Context(*state, size);
    return built;
  };
  SampleFamily family{.min_size = static_cast<int32_t>(state->needles.size()), .build = build};
  if (task.haystack == NeedleHaystack::kNeedles && task.key == NeedleKind::kWord) {
    // Half of all keys there are, so that drawing a new one never takes long.
    family.max_size = static_cast<int32_t>(text.adjectives.size() * text.nouns.size() / 2);
  }
  return family;
}

}  // namespace lukv
