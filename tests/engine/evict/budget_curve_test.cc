#include "engine/evict/budget_curve.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "engine/evict/npy.h"
#include "tests/engine/model/status_matchers.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using absl::StatusCode;
using nlohmann::json;

constexpr int32_t kLayers = 3;
constexpr int32_t kHeads = 2;
constexpr size_t kRow = kLayers * kHeads;
constexpr char kModel[] = "llama-3x2x8-0123456789abcdef";

// Every value of its own, so that a mixed-up index shows.
std::vector<float> Ratios() {
  std::vector<float> ratios(BudgetCurve::kRatios * kRow);
  for (size_t i = 0; i < ratios.size(); ++i) ratios[i] = static_cast<float>(i) / static_cast<float>(ratios.size());
  return ratios;
}

CurveInfo Info(Scorer scorer) {
  const Policy policy = DefaultPolicy(scorer);
  return {.model_fingerprint = kModel,
          .model_name = "tiny",
          .scorer = policy.scorer,
          .sink = policy.sink,
          .window = policy.window,
          .context_tokens = {4000, 3999},
          .questions = 60,
          .program_version = "1.2.3"};
}

BudgetCurve Curve(CurveInfo info) { return *BudgetCurve::Make(std::move(info), kLayers, kHeads, Ratios()); }

ModelConfig Config() {
  ModelConfig config;
  config.n_layers = kLayers;
  config.n_kv_heads = kHeads;
  return config;
}

class CurveFiles : public testing::Test {
 protected:
  CurveFiles() {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("lukv_curve_") + testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directory(folder_);
  }
  ~CurveFiles() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  void Save(const BudgetCurve& curve, const std::string& name) {
    fs::create_directories(fs::path(Path(name)).parent_path());
    const absl::Status status = SaveCurve(curve, Path(name));
    ASSERT_TRUE(status.ok()) << status;
  }
  json Sidecar(const std::string& name) { return json::parse(*ReadWholeFile(Path(name), 1 << 20)); }
  void Write(const std::string& name, const std::string& contents) { std::ofstream(Path(name)) << contents; }

  fs::path folder_;
};

TEST(BudgetCurve, LooksUpThePublishedIndex) {
  const BudgetCurve curve = Curve(Info(Scorer::kKeyDiff));
  const auto row_of = [&](double ratio) {
    // The first value of layer 0 is row * kRow / size.
    return static_cast<int>(curve.Layer(ratio, 0)[0] * BudgetCurve::kRatios + 0.5f);
  };
  EXPECT_EQ(row_of(0.8), 79);
  EXPECT_EQ(row_of(0.01), 0);
  EXPECT_EQ(row_of(0.0), 0);
  EXPECT_EQ(row_of(0.99), 98);
  EXPECT_EQ(row_of(0.999), 98);
  EXPECT_EQ(row_of(0.57), 56);   // 100 * 0.57 is just below 57.
  EXPECT_EQ(row_of(0.125), 11);  // 12.5 goes to the even 12.
  EXPECT_EQ(row_of(0.375), 37);  // 37.5 to 38
  const std::vector<float> ratios = Ratios();
  for (int32_t layer = 0; layer < kLayers; ++layer) {
    const std::span<const float> heads = curve.Layer(0.25, layer);
    ASSERT_EQ(heads.size(), size_t{kHeads});
    EXPECT_EQ(heads[1], ratios[24 * kRow + static_cast<size_t>(layer) * kHeads + 1]);
  }
}

TEST(BudgetCurve, RefusesWrongSizesAndValues) {
  const auto make = [](int32_t layers, int32_t heads, std::vector<float> ratios) {
    return BudgetCurve::Make({}, layers, heads, std::move(ratios)).status();
  };
  ExpectStatus(make(kLayers, kHeads + 1, Ratios()), StatusCode::kInvalidArgument, "99 times 9 ratios, not 594");
  ExpectStatus(make(kLayers, kHeads, std::vector<float>(595)), StatusCode::kInvalidArgument, "not 595");
  ExpectStatus(make(0, kHeads, {}), StatusCode::kInvalidArgument, "0 layers of 2 kv heads");
  ExpectStatus(make(kLayers, -1, {}), StatusCode::kInvalidArgument, "3 layers of -1 kv heads");
  for (const float wrong : {-0.001f, 1.001f, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> ratios = Ratios();
    ratios[79 * kRow + 2 * kHeads + 1] = wrong;
    ExpectStatus(make(kLayers, kHeads, ratios), StatusCode::kInvalidArgument, "layer 2, kv head 1 at 80 % is");
  }
}

TEST_F(CurveFiles, EveryScorerComesBack) {
  for (const Scorer scorer : {Scorer::kExpectedAttention, Scorer::kSnapKv, Scorer::kKeyDiff, Scorer::kKeyNorm,
                              Scorer::kStreamingLlm, Scorer::kRandom}) {
    CurveInfo info = Info(scorer);
    switch (scorer) {
      case Scorer::kExpectedAttention:
        info.scorer.epsilon = 0.1f;
        info.scorer.future = 77;
        break;
      case Scorer::kSnapKv:
        info.scorer.queries = 64;
        info.scorer.kernel = 5;
        info.scorer.pooling = Pooling::kAverage;
        break;
      case Scorer::kRandom:
        info.scorer.seed = ~uint64_t{0};
        break;
      default:
        break;
    }
    Save(Curve(info), "a.npy");
    const auto curve = LoadCurve(Path("a.npy"));
    ASSERT_TRUE(curve.ok()) << curve.status();
    EXPECT_EQ(curve->info().model_fingerprint, kModel);
    EXPECT_EQ(curve->info().model_name, "tiny");
    EXPECT_EQ(curve->info().scorer, info.scorer);
    EXPECT_EQ(curve->info().sink, info.sink);
    EXPECT_EQ(curve->info().window, info.window);
    EXPECT_EQ(curve->info().context_tokens, info.context_tokens);
    EXPECT_EQ(curve->info().questions, 60);
    EXPECT_EQ(curve->info().program_version, "1.2.3");
    EXPECT_EQ(curve->n_layers(), kLayers);
    EXPECT_EQ(curve->n_kv_heads(), kHeads);
    const std::vector<float> ratios = Ratios();
    EXPECT_TRUE(std::equal(ratios.begin(), ratios.end(), curve->all().begin(), curve->all().end()));
  }
}

TEST_F(CurveFiles, TheSidecarReadsWell) {
  Save(Curve(Info(Scorer::kExpectedAttention)), "a.npy");
  EXPECT_EQ(Sidecar("a.json"), (json{{"model_fingerprint", kModel},
                                     {"model_name", "tiny"},
                                     {"scorer", "expected_attention"},
                                     {"settings", {{"epsilon", 0.02}, {"future", 512}}},
                                     {"sink", 4},
                                     {"window", 1},
                                     {"context_tokens", {4000, 3999}},
                                     {"questions", 60},
                                     {"program_version", "1.2.3"}}));
  CurveInfo odd = Info(Scorer::kKeyDiff);
  odd.model_name = "not \xff UTF-8";
  Save(Curve(odd), "b.npy");
  EXPECT_EQ(LoadCurve(Path("b.npy"))->info().model_name, "not \xef\xbf\xbd UTF-8");
}

// A sidecar for a published curve, as somebody writes it by hand.
TEST_F(CurveFiles, AShortSidecarIsEnoughAndMoreIsIgnored) {
  Save(Curve(Info(Scorer::kKeyDiff)), "a.npy");
  Write("a.json", R"({"model_fingerprint": "x", "scorer": "keydiff", "sink": 4, "window": 1, "from": {"a": [1]}})");
  const auto curve = LoadCurve(Path("a.npy"));
  ASSERT_TRUE(curve.ok()) << curve.status();
  EXPECT_EQ(curve->info().scorer, DefaultPolicy(Scorer::kKeyDiff).scorer);
  EXPECT_EQ(curve->info().questions, 0);
}

TEST_F(CurveFiles, WrongSidecarsAreRefusedByName) {
  Save(Curve(Info(Scorer::kSnapKv)), "a.npy");
  const json good = Sidecar("a.json");
  const auto refused = [&](const json& sidecar, const std::string& words) {
    Write("a.json", sidecar.dump());
    const absl::Status status = LoadCurve(Path("a.npy")).status();
    ExpectStatus(status, StatusCode::kInvalidArgument, words);
    EXPECT_EQ(status.message().find(Path("a.json")), 0u) << status;
  };
  for (const char* name : {"model_fingerprint", "scorer", "sink", "window"}) {
    json sidecar = good;
    sidecar.erase(name);
    refused(sidecar, std::string("\"") + name + "\" is missing");
  }
  for (const char* name : {"queries", "kernel", "pool"}) {
    json sidecar = good;
    sidecar["settings"].erase(name);
    refused(sidecar, std::string("\"") + name + "\" is missing");
    sidecar["settings"][name] = json::array();
    refused(sidecar, std::string("\"") + name + "\" is not a");
  }
  const auto with = [&](const char* name, const json& value) {
    json sidecar = good;
    sidecar[name] = value;
    return sidecar;
  };
  refused(with("model_fingerprint", 3), "\"model_fingerprint\" is not a string");
  refused(with("model_name", json::object()), "\"model_name\" is not a string");
  refused(with("program_version", 1.5), "\"program_version\" is not a string");
  refused(with("scorer", "magic"), "\"scorer\" is \"magic\", which is none");
  refused(with("settings", 3), "\"settings\" is not an object");
  refused(with("sink", -1), "\"sink\" is not a count");
  refused(with("sink", 4.5), "\"sink\" is not a count");
  refused(with("window", uint64_t{1} << 40), "\"window\" is not a count");
  refused(with("questions", "many"), "\"questions\" is not a count");
  refused(with("context_tokens", 4000), "\"context_tokens\" is not a list of counts");
  refused(with("context_tokens", {4000, "x"}), "\"context_tokens\" is not a count");
  refused(json::array(), "not a JSON object");
  json even = good;
  even["settings"]["kernel"] = 6;
  refused(even, "kernel");

  Write("a.json", R"({"sink": 4, "sink": 5})");
  ExpectStatus(LoadCurve(Path("a.npy")).status(), StatusCode::kInvalidArgument, "twice");
  Write("a.json", "");
  ExpectStatus(LoadCurve(Path("a.npy")).status(), StatusCode::kInvalidArgument, "not valid JSON");
  fs::remove(Path("a.json"));
  ExpectStatus(LoadCurve(Path("a.npy")).status(), StatusCode::kInvalidArgument, "is missing");
}

TEST_F(CurveFiles, WrongArraysAreRefusedByName) {
  Save(Curve(Info(Scorer::kKeyDiff)), "a.npy");
  const auto refused = [&](const NpyArray& array, const std::string& words) {
    ASSERT_TRUE(WriteWholeFile(Path("a.npy"), SerializeNpy(array)).ok());
    const absl::Status status = LoadCurve(Path("a.npy")).status();
    ExpectStatus(status, StatusCode::kInvalidArgument, words);
    EXPECT_EQ(status.message().find(Path("a.npy")), 0u) << status;
  };
  refused({.shape = {99, 6}, .values = Ratios()}, "an array of [99, layers, kv heads]");
  refused({.shape = {98, 1, 1}, .values = std::vector<float>(98)}, "an array of [99, layers, kv heads]");
  refused({.shape = {99, 0, 3}, .values = {}}, "0 layers of 3 kv heads");
  refused({.shape = {99, int64_t{1} << 32, 0}, .values = {}}, "an array of [99, layers, kv heads]");
  refused({.shape = {99, 1, 1}, .values = std::vector<float>(99, 2.0f)}, "is 2; must be in [0, 1]");
  Write("a.npy", "junk");
  ExpectStatus(LoadCurve(Path("a.npy")).status(), StatusCode::kInvalidArgument, "not an npy file");
  ExpectStatus(LoadCurve(Path("none.npy")).status(), StatusCode::kNotFound, "none.npy");
  ExpectStatus(LoadCurve(Path("a.txt")).status(), StatusCode::kInvalidArgument, "ends in .npy");
  ExpectStatus(SaveCurve(Curve(Info(Scorer::kKeyDiff)), Path("a.txt")), StatusCode::kInvalidArgument, "ends in .npy");
}

TEST_F(CurveFiles, AFolderIsASetOfCurves) {
  Save(Curve(Info(Scorer::kSnapKv)), "snapkv.npy");
  Save(Curve(Info(Scorer::kExpectedAttention)), "expected_attention.npy");
  Write("notes.txt", "nothing");
  const auto set = CurveSet::LoadFolder(folder_.string(), Config(), kModel);
  ASSERT_TRUE(set.ok()) << set.status();
  const Policy snapkv = DefaultPolicy(Scorer::kSnapKv);
  const BudgetCurve* const curve = set->Get(snapkv.scorer, snapkv.sink, snapkv.window);
  ASSERT_NE(curve, nullptr);
  EXPECT_EQ(curve->info().scorer.scorer, Scorer::kSnapKv);
  EXPECT_EQ(set->Get(snapkv.scorer, snapkv.sink, snapkv.window + 1), nullptr);
  EXPECT_EQ(set->Get(snapkv.scorer, snapkv.sink + 1, snapkv.window), nullptr);
  ScorerSettings other = snapkv.scorer;
  other.kernel = 5;
  EXPECT_EQ(set->Get(other, snapkv.sink, snapkv.window), nullptr);
  const Policy ea = DefaultPolicy(Scorer::kExpectedAttention);
  EXPECT_EQ(set->Labels(), (std::vector<std::string>{ScorerLabel(ea.scorer, ea.sink, ea.window),
                                                     ScorerLabel(snapkv.scorer, snapkv.sink, snapkv.window)}));
  EXPECT_FALSE(set->empty());
}

TEST_F(CurveFiles, AFolderOfAnotherModelIsRefusedByFile) {
  Save(Curve(Info(Scorer::kSnapKv)), "snapkv.npy");
  const auto load = [&](const ModelConfig& config, const std::string& fingerprint) {
    return CurveSet::LoadFolder(folder_.string(), config, fingerprint).status();
  };
  ExpectStatus(load(Config(), "other"), StatusCode::kInvalidArgument,
               Path("snapkv.npy") + ": the curve is of the model \"" + kModel + "\", this is other");
  ModelConfig config = Config();
  config.n_layers = 4;
  ExpectStatus(load(config, kModel), StatusCode::kInvalidArgument, "has 3 layers of 2 kv heads, the model 4 of 2");
  Save(Curve(Info(Scorer::kSnapKv)), "twice.npy");
  ExpectStatus(load(Config(), kModel), StatusCode::kInvalidArgument, "twice.npy: another file of the folder");
  fs::remove(Path("twice.npy"));
  Write("damaged.npy", "\x93NUMPY");
  ExpectStatus(load(Config(), kModel), StatusCode::kInvalidArgument, "damaged.npy");
  ExpectStatus(CurveSet::LoadFolder(Path("none"), Config(), kModel).status(), StatusCode::kNotFound, "none");
}

TEST_F(CurveFiles, FindTakesTheFolderOfTheModel) {
  CurveInfo other = Info(Scorer::kKeyDiff);
  other.model_fingerprint = "other";
  Save(Curve(other), "a-other/keydiff.npy");
  Save(Curve(Info(Scorer::kKeyDiff)), "b-tiny/keydiff.npy");
  Save(Curve(Info(Scorer::kSnapKv)), "c-tiny/snapkv.npy");
  fs::create_directory(Path("d-empty"));
  Write("README", "nothing");
  const auto set = CurveSet::Find(folder_.string(), Config(), kModel);
  ASSERT_TRUE(set.ok()) << set.status();
  const Policy keydiff = DefaultPolicy(Scorer::kKeyDiff);
  EXPECT_NE(set->Get(keydiff.scorer, keydiff.sink, keydiff.window), nullptr);
  const Policy snapkv = DefaultPolicy(Scorer::kSnapKv);
  EXPECT_EQ(set->Get(snapkv.scorer, snapkv.sink, snapkv.window), nullptr) << "the first folder alone counts";

  EXPECT_TRUE(CurveSet::Find(folder_.string(), Config(), "unknown")->empty());
  EXPECT_TRUE(CurveSet::Find(Path("none"), Config(), kModel)->empty());
  // A folder of this model with a stranger in it is a mistake.
  Save(Curve(Info(Scorer::kSnapKv)), "a-other/snapkv.npy");
  ExpectStatus(CurveSet::Find(folder_.string(), Config(), kModel).status(), StatusCode::kInvalidArgument,
               "a-other/keydiff.npy");
}

}  // namespace
}  // namespace lukv
