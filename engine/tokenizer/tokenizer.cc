#include "engine/tokenizer/tokenizer.h"

#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "engine/concat.h"
#include "engine/tokenizer/tokenizer_model.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

// Positions inside a text are 32 bits wide where there are many of them. Far above any request.
constexpr size_t kMaxTextBytes = size_t{1} << 30;
// Ten times the largest file published.
constexpr uintmax_t kMaxFileBytes = 512u << 20;

absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (!exists) return absl::NotFoundError(Concat(path.string(), ": no such file"));
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::UnknownError(Concat(path.string(), ": ", error.message()));
  if (size > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        Concat(path.string(), ": is ", size, " bytes, expected at most ", kMaxFileBytes));
  }
  std::string contents(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(contents.data(), static_cast<std::streamsize>(size))) {
    return absl::UnknownError(Concat(path.string(), ": cannot be read"));
  }
  return contents;
}

}  // namespace

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& folder) {
  const std::filesystem::path path(folder);
  ASSIGN_OR_RETURN(std::string tokenizer_json, ReadFile(path / "tokenizer.json"));
  absl::StatusOr<std::string> config_json = ReadFile(path / "tokenizer_config.json");
  if (!config_json.ok() && !absl::IsNotFound(config_json.status())) return config_json.status();
  return Parse(tokenizer_json, config_json.ok() ? *config_json : "");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view tokenizer_json,
                                                            std::string_view config_json) {
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  ASSIGN_OR_RETURN(tokenizer->model_, Model::Parse(tokenizer_json, config_json));
  return tokenizer;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        Concat("text is ", text.size(), " bytes, expected at most ", kMaxTextBytes));
  }
  if (!IsUtf8(text)) return absl::InvalidArgumentError("text is not valid UTF-8");
  std::vector<int32_t> ids;
  Bpe::Scratch scratch;
  PreTokenizer::Run pieces(model_->pretokenizer);
  const auto encode_piece = [&](std::string_view piece) {
    return model_->bpe->Encode(piece, &ids, &scratch);
  };
  std::vector<AddedTokenSplitter::Piece> outer, inner;
  model_->raw_tokens.Split(text, &outer);
  for (const AddedTokenSplitter::Piece& part : outer) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    std::string normalized;
    std::string_view view = part.text;
    if (!model_->normalizer.empty()) {
      normalized.assign(part.text);
      RETURN_IF_ERROR(model_->normalizer.Apply(&normalized));
      view = normalized;
    }
    inner.clear();
    model_->normalized_tokens.Split(view, &inner);
    for (const AddedTokenSplitter::Piece& piece : inner) {
      if (piece.id >= 0) {
        ids.push_back(piece.id);
        continue;
      }
      const bool at_start = part.text.data() == text.data() && piece.text.data() == view.data();
      RETURN_IF_ERROR(pieces.Split(piece.text, at_start, encode_piece));
    }
  }
  if (add_special_tokens) model_->post_processor.Apply(&ids);
  return ids;
}

std::optional<std::string_view> Tokenizer::Model::TextOf(int32_t id,
                                                         bool skip_special_tokens) const {
  if (const auto token = added.find(id); token != added.end()) {
    if (skip_special_tokens && token->second.special) return std::nullopt;
    return token->second.text;
  }
  return bpe->TokenOf(id);
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string out;
  Decoder::State state = model_->decoder.Begin();
  for (int32_t id : ids) {
    if (const auto text = model_->TextOf(id, skip_special_tokens)) {
      model_->decoder.Push(*text, &state, &out);
    }
  }
  model_->decoder.Finish(&state, &out);
  return out;
}

int Tokenizer::vocab_size() const { return model_->vocab_size; }

}  // namespace ballast
