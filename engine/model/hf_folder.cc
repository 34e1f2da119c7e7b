#include "engine/model/hf_folder.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "engine/model/checked_json.h"
#include "engine/model/hf_config.h"
#include "engine/model/mapped_file.h"
#include "engine/model/safetensors.h"
#include "engine/model/weight_layout.h"

namespace lukv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kConfigName[] = "config.json";
constexpr char kSingleName[] = "model.safetensors";
constexpr char kIndexName[] = "model.safetensors.index.json";
constexpr size_t kMaxJsonBytes = 64 << 20;

struct NamePair {
  std::string_view ours;
  std::string_view theirs;
};

constexpr NamePair kModelNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

// Without "blk.N." / "model.layers.N." in front and ".weight" / ".bias" behind.
constexpr NamePair kLayerNames[] = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

// REQUIRES: `ours` is a name that CollectTensors asks for.
std::string TheirName(std::string_view ours) {
  for (const NamePair& pair : kModelNames) {
    if (pair.ours == ours) return std::string(pair.theirs);
  }
  const size_t layer_begin = std::string_view("blk.").size();
  const size_t layer_end = ours.find('.', layer_begin);
  const size_t kind_begin = ours.rfind('.');
  LUKV_CHECK(layer_end < kind_begin && kind_begin != std::string_view::npos);
  const std::string_view middle = ours.substr(layer_end + 1, kind_begin - layer_end - 1);
  for (const NamePair& pair : kLayerNames) {
    if (pair.ours == middle) {
      return StrCat("model.layers.", ours.substr(layer_begin, layer_end - layer_begin), ".", pair.theirs,
                    ours.substr(kind_begin));
    }
  }
  LUKV_CHECK(false);
}

absl::StatusOr<json> ReadJson(const fs::path& path) {
  LUKV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path.string()));
  if (file->contents().size() > kMaxJsonBytes) {
    return absl::InvalidArgumentError(StrCat(path.string(), ": is larger than ", kMaxJsonBytes, " bytes"));
  }
  auto root = ParseCheckedJson(file->contents());
  if (!root.ok()) return Prefixed(root.status(), path.string());
  return root;
}

// The folder's tensors, whichever file they lie in.
struct Shards {
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::map<std::string, const SafetensorsFile*, std::less<>> file_of;
};

absl::StatusOr<Shards> OpenSingle(const fs::path& path) {
  Shards shards;
  LUKV_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open(path.string()));
  for (const std::string_view name : file->TensorNames()) shards.file_of.emplace(name, file.get());
  shards.files.push_back(std::move(file));
  return shards;
}

// A shard's name comes from the index: it must not lead out of the folder.
bool IsPlainName(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

absl::StatusOr<Shards> OpenIndexed(const fs::path& folder, const json& index) {
  const std::string where = (folder / kIndexName).string();
  const auto weight_map = index.find("weight_map");
  if (!index.is_object() || weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    return absl::InvalidArgumentError(StrCat(where, ": has no \"weight_map\" of tensor names to files"));
  }
  Shards shards;
  std::map<std::string, const SafetensorsFile*> opened;
  for (const auto& [name, file_name] : weight_map->items()) {
    const std::string tensor = Quoted(name);
    if (!file_name.is_string() || !IsPlainName(file_name.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(StrCat(where, ": tensor ", tensor, " lies in ",
                                               file_name.dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 80),
                                               ", which is not the name of a .safetensors file in the folder"));
    }
    const SafetensorsFile*& file = opened[file_name.get<std::string>()];
    if (file == nullptr) {
      LUKV_ASSIGN_OR_RETURN(auto shard, SafetensorsFile::Open((folder / file_name.get<std::string>()).string()));
      file = shard.get();
      shards.files.push_back(std::move(shard));
    }
    if (!file->HasTensor(name)) {
      return absl::InvalidArgumentError(
          StrCat(where, ": tensor ", tensor, " is not in ", file_name.get<std::string>(), ", where it should be"));
    }
    shards.file_of.emplace(name, file);
  }
  return shards;
}

absl::StatusOr<Shards> OpenShards(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / kSingleName, error)) return OpenSingle(folder / kSingleName);
  if (!fs::exists(folder / kIndexName, error)) {
    return absl::NotFoundError(StrCat(folder.string(), ": holds neither ", kSingleName, " nor ", kIndexName));
  }
  LUKV_ASSIGN_OR_RETURN(const json index, ReadJson(folder / kIndexName));
  return OpenIndexed(folder, index);
}

// A tensor that the forward would not read means a model that lukv does not know, not one to run without it.
absl::Status RefuseUnknownTensors(const ModelConfig& config, const TensorMap& tensors, const Shards& shards) {
  std::set<std::string, std::less<>> known;
  for (const auto& item : tensors) known.insert(TheirName(item.first));
  for (const auto& [name, file] : shards.file_of) {
    // Frequencies that old versions stored; a tied head that was written out all the same.
    if (known.contains(name) || name.ends_with(".rotary_emb.inv_freq")) continue;
    if (config.tied_embeddings && name == "lm_head.weight") continue;
    return absl::UnimplementedError(
        StrCat("tensor ", Quoted(name), " is not part of a ", config.architecture, " model as lukv knows it"));
  }
  return absl::OkStatus();
}

class HfWeights : public WeightSource {
 public:
  HfWeights(Shards shards, ModelConfig config, TensorMap tensors)
      : shards_(std::move(shards)), config_(std::move(config)), tensors_(std::move(tensors)) {}

  const ModelConfig& config() const override { return config_; }
  absl::StatusOr<TensorView> Tensor(std::string_view name) const override { return FindTensor(tensors_, name); }
  bool Has(std::string_view name) const override { return tensors_.contains(name); }
  size_t file_bytes() const override {
    size_t total = 0;
    for (const auto& file : shards_.files) total += file->file_bytes();
    return total;
  }
  void LetGo() const override {
    for (const auto& file : shards_.files) file->LetGo();
  }

 private:
  Shards shards_;
  ModelConfig config_;
  TensorMap tensors_;
};

std::string FolderName(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return normal.has_filename() ? normal.filename().string() : normal.parent_path().filename().string();
}

absl::StatusOr<TensorMap> CheckTensors(const ModelConfig& config, const Shards& shards) {
  const auto find = [&](std::string_view ours) -> absl::StatusOr<TensorView> {
    const std::string theirs = TheirName(ours);
    const auto it = shards.file_of.find(theirs);
    if (it == shards.file_of.end()) return absl::NotFoundError(StrCat("tensor \"", theirs, "\" is missing"));
    return it->second->Tensor(theirs);
  };
  LUKV_ASSIGN_OR_RETURN(TensorMap tensors, CollectTensors(config, find));
  LUKV_RETURN_IF_ERROR(RefuseUnknownTensors(config, tensors, shards));
  return tensors;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> WeightsFromHfFolder(const std::string& path) {
  const fs::path folder(path);
  std::error_code error;
  if (!fs::exists(folder / kConfigName, error)) {
    return absl::NotFoundError(StrCat(path, ": holds no ", kConfigName));
  }
  LUKV_ASSIGN_OR_RETURN(const json root, ReadJson(folder / kConfigName));
  auto config = ConfigFromHfJson(root, FolderName(folder));
  if (!config.ok()) return Prefixed(config.status(), (folder / kConfigName).string());
  LUKV_ASSIGN_OR_RETURN(Shards shards, OpenShards(folder));
  auto tensors = CheckTensors(*config, shards);
  if (!tensors.ok()) return Prefixed(tensors.status(), path);
  return std::make_unique<HfWeights>(std::move(shards), *std::move(config), *std::move(tensors));
}

}  // namespace lukv
