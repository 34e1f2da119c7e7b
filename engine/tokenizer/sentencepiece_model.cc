// tokenizer.model: the sentencepiece library's ModelProto (sentencepiece_model.proto), read off the protobuf wire
// format (https://protobuf.dev/programming-guides/encoding/).
#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/quoted.h"
#include "base/status_macros.h"
#include "engine/tokenizer/tokenizer_files.h"

namespace lukv {
namespace {

struct Field {
  uint32_t number = 0;
  uint64_t value = 0;      // Varint and fixed fields.
  std::string_view bytes;  // Length-delimited fields.

  float AsFloat() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
  // A proto int32 is sign-extended to 64 bits on the wire.
  int32_t AsInt32() const { return static_cast<int32_t>(static_cast<uint32_t>(value)); }
};

// Walks over the fields of one message.
class MessageReader {
 public:
  explicit MessageReader(std::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }

  absl::StatusOr<Field> Next() {
    LUKV_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
    Field field;
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0: {
        LUKV_ASSIGN_OR_RETURN(field.value, Varint());
        return field;
      }
      case 1:
        return Fixed(field, 8);
      case 2: {
        LUKV_ASSIGN_OR_RETURN(const uint64_t length, Varint());
        if (length > rest_.size()) return Damaged();
        field.bytes = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return field;
      }
      case 5:
        return Fixed(field, 4);
      default:
        return Damaged();
    }
  }

 private:
  static absl::Status Damaged() { return absl::InvalidArgumentError("not a SentencePiece model, or a damaged one"); }

  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return Damaged();
      const auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return Damaged();
  }

  absl::StatusOr<Field> Fixed(Field field, size_t size) {
    if (rest_.size() < size) return Damaged();
    std::memcpy(&field.value, rest_.data(), size);  // Little-endian, as the wire is.
    rest_.remove_prefix(size);
    return field;
  }

  std::string_view rest_;
};

// Calls `handle` with each field of `message`.
template <typename Handle>
absl::Status ForEachField(std::string_view message, Handle handle) {
  for (MessageReader reader(message); !reader.done();) {
    LUKV_ASSIGN_OR_RETURN(const Field field, reader.Next());
    LUKV_RETURN_IF_ERROR(handle(field));
  }
  return absl::OkStatus();
}

// ModelProto.SentencePiece: piece = 1, score = 2, type = 3.
absl::Status ReadPiece(std::string_view message, TokenizerData& data, std::vector<float>& scores) {
  std::string text;
  float score = 0;
  uint64_t type = 1;
  LUKV_RETURN_IF_ERROR(ForEachField(message, [&](const Field& field) {
    if (field.number == 1) text = std::string(field.bytes);
    if (field.number == 2) score = field.AsFloat();
    if (field.number == 3) type = field.value;
    return absl::OkStatus();
  }));
  if (type < 1 || type > 6) {
    return absl::InvalidArgumentError(absl::StrCat("piece ", data.tokens.size(), " has the unknown type ", type));
  }
  if (type == static_cast<uint64_t>(TokenType::kUserDefined) && text.find("\xE2\x96\x81") != std::string::npos) {
    return absl::UnimplementedError(
        absl::StrCat("user-defined piece ", data.tokens.size(), " with a space (", Quoted(text), ") is not supported"));
  }
  data.tokens.push_back(std::move(text));
  data.types.push_back(static_cast<TokenType>(type));
  scores.push_back(score);
  return absl::OkStatus();
}

// TrainerSpec: model_type = 3 (2: BPE), treat_whitespace_as_suffix = 24, bos_id = 41, eos_id = 42.
absl::Status ReadTrainerSpec(std::string_view message, TokenizerData& data) {
  uint64_t model_type = 1;
  bool suffix = false;
  LUKV_RETURN_IF_ERROR(ForEachField(message, [&](const Field& field) {
    if (field.number == 3) model_type = field.value;
    if (field.number == 24) suffix = field.value != 0;
    if (field.number == 41) data.bos = std::max(field.AsInt32(), -1);
    if (field.number == 42) data.end_tokens = {field.AsInt32()};
    return absl::OkStatus();
  }));
  if (model_type != 2) {
    return absl::UnimplementedError(
        absl::StrCat("SentencePiece model type ", model_type, " is not supported; supported: 2 (BPE)"));
  }
  if (suffix) return absl::UnimplementedError("SentencePiece's treat_whitespace_as_suffix is not supported");
  return absl::OkStatus();
}

// NormalizerSpec: precompiled_charsmap = 2, add_dummy_prefix = 3, remove_extra_whitespaces = 4, escape_whitespaces = 5.
absl::Status ReadNormalizerSpec(std::string_view message, TokenizerData& data) {
  bool charsmap = false;
  bool remove = true;
  bool escape = true;
  bool prefix = true;
  LUKV_RETURN_IF_ERROR(ForEachField(message, [&](const Field& field) {
    if (field.number == 2) charsmap = !field.bytes.empty();
    if (field.number == 3) prefix = field.value != 0;
    if (field.number == 4) remove = field.value != 0;
    if (field.number == 5) escape = field.value != 0;
    return absl::OkStatus();
  }));
  if (charsmap || remove || !escape) {
    return absl::UnimplementedError(
        "a SentencePiece model that normalises characters or removes spaces is not supported; supported: the identity "
        "normalisation of Llama 2 and Mistral");
  }
  data.space_prefix = prefix ? SpacePrefix::kEach : SpacePrefix::kNever;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerData> ParseSentencePieceModel(std::string_view bytes) {
  TokenizerData data;
  data.kind = TokenizerKind::kSentencePiece;
  // The library's own defaults, which a model need not write down.
  data.bos = 1;
  data.end_tokens = {2};
  std::vector<float> scores;
  // ModelProto: pieces = 1, trainer_spec = 2, normalizer_spec = 3.
  bool trained = false;
  LUKV_RETURN_IF_ERROR(ForEachField(bytes, [&](const Field& field) -> absl::Status {
    if (field.number == 1) return ReadPiece(field.bytes, data, scores);
    if (field.number == 2) {
      trained = true;
      return ReadTrainerSpec(field.bytes, data);
    }
    if (field.number == 3) return ReadNormalizerSpec(field.bytes, data);
    return absl::OkStatus();
  }));
  if (!trained) return absl::InvalidArgumentError("not a SentencePiece model: it has no trainer_spec");
  std::erase_if(data.end_tokens, [](TokenId id) { return id < 0; });
  CollectAddedTokens(data);
  data.adds_bos = data.bos >= 0;
  LUKV_ASSIGN_OR_RETURN(const VocabularyIndex index, IndexVocabulary(data));
  LUKV_RETURN_IF_ERROR(AddMergesByScore(index, scores, data));
  return data;
}

}  // namespace lukv
