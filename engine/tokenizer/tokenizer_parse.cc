#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/concat.h"
#include "engine/tokenizer/json_field.h"
#include "engine/tokenizer/tokenizer_model.h"

namespace ballast {
namespace {

// An added token and the vocabulary must not disagree about an id.
absl::Status CheckAgainstVocabulary(const JsonField& root, const AddedToken& token,
                                    const Bpe& bpe) {
  const std::optional<int32_t> id = bpe.IdOf(token.content);
  if (id && *id != token.id) {
    return root.ErrorAt(".added_tokens", Concat("gives ", QuoteForError(token.content), " the id ",
                                                token.id, ", but model.vocab the id ", *id));
  }
  const std::optional<std::string_view> content = bpe.TokenOf(token.id);
  if (content && *content != token.content) {
    return root.ErrorAt(".added_tokens",
                        Concat("gives ", QuoteForError(token.content), " the id ", token.id,
                               ", which ", QuoteForError(*content), " has in model.vocab"));
  }
  return absl::OkStatus();
}

absl::Status ConfigError(std::string_view what) {
  return absl::InvalidArgumentError(Concat("tokenizer_config.json: ", what));
}

// The text of bos_token: a string, or an object that holds one.
absl::StatusOr<std::string> ParseBosContent(const nlohmann::json& config) {
  const auto field = config.find("bos_token");
  if (field == config.end() || field->is_null()) {
    return ConfigError("field bos_token is missing, but add_bos_token is true");
  }
  if (field->is_string()) return field->get<std::string>();
  if (field->is_object()) {
    const auto content = field->find("content");
    if (content != field->end() && content->is_string()) return content->get<std::string>();
  }
  return ConfigError("field bos_token is neither a string nor an object with the string content");
}

// The id of BOS where tokenizer_config.json wants it in front of every text. This file is read with
// nlohmann's parser: published ones hold integers that simdjson refuses (a model_max_length of
// 1e30 written out).
absl::StatusOr<std::optional<int32_t>> ParseBos(std::string_view config_json,
                                                const std::vector<AddedToken>& added,
                                                const Bpe& bpe) {
  std::optional<int32_t> bos;
  if (config_json.empty()) return bos;
  const nlohmann::json config = nlohmann::json::parse(config_json, nullptr, false);
  if (config.is_discarded()) return ConfigError("not valid JSON");
  if (!config.is_object()) return ConfigError("the file is not a JSON object");
  const auto wanted = config.find("add_bos_token");
  if (wanted == config.end() || wanted->is_null()) return bos;
  if (!wanted->is_boolean()) return ConfigError("field add_bos_token is not true or false");
  if (!wanted->get<bool>()) return bos;
  ASSIGN_OR_RETURN(std::string content, ParseBosContent(config));
  const auto token = std::find_if(added.begin(), added.end(),
                                  [&](const AddedToken& t) { return t.content == content; });
  bos = token != added.end() ? token->id : bpe.IdOf(content);
  if (bos) return bos;
  return ConfigError(
      Concat("field bos_token is ", QuoteForError(content), ", which tokenizer.json lacks"));
}

// transformers 4 replaced the post-processor by a template with BOS where the config wants BOS.
void PutBosInFront(std::optional<int32_t> bos, PostProcessor* post_processor) {
  std::vector<int32_t>& before = post_processor->before;
  if (!bos || (!before.empty() && before.front() == *bos)) return;
  before.insert(before.begin(), *bos);
}

absl::Status CheckTemplate(const JsonField& root, const PostProcessor& post_processor,
                           int vocab_size) {
  for (const std::vector<int32_t>* ids : {&post_processor.before, &post_processor.after}) {
    for (int32_t id : *ids) {
      if (id < vocab_size) continue;
      return root.ErrorAt(".post_processor",
                          Concat("adds the id ", id, ", expected one below ", vocab_size));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer::Model>> Tokenizer::Model::Parse(
    std::string_view tokenizer_json, std::string_view config_json) {
  JsonFile file;
  ASSIGN_OR_RETURN(JsonField root, file.Parse(tokenizer_json, "tokenizer.json"));
  ASSIGN_OR_RETURN(std::optional<JsonField> version, root.Find("version"));
  if (version) {
    ASSIGN_OR_RETURN(std::string_view name, version->AsString());
    if (name != "1.0") {
      return version->Error(Concat("is ", QuoteForError(name), ", expected \"1.0\""));
    }
  }
  ASSIGN_OR_RETURN(std::optional<JsonField> added_field, root.Find("added_tokens"));
  ASSIGN_OR_RETURN(std::vector<AddedToken> added, ParseAddedTokens(added_field));
  ASSIGN_OR_RETURN(std::optional<JsonField> normalizer_field, root.Find("normalizer"));
  ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::Parse(normalizer_field));
  ASSIGN_OR_RETURN(std::optional<JsonField> pretokenizer_field, root.Find("pre_tokenizer"));
  ASSIGN_OR_RETURN(PreTokenizer pretokenizer, PreTokenizer::Parse(pretokenizer_field));
  ASSIGN_OR_RETURN(JsonField model_field, root.Get("model"));
  ASSIGN_OR_RETURN(std::unique_ptr<Bpe> bpe, Bpe::Parse(model_field, pretokenizer.byte_level()));
  ASSIGN_OR_RETURN(std::optional<JsonField> processor_field, root.Find("post_processor"));
  ASSIGN_OR_RETURN(PostProcessor post_processor, PostProcessor::Parse(processor_field));
  ASSIGN_OR_RETURN(std::optional<JsonField> decoder_field, root.Find("decoder"));
  ASSIGN_OR_RETURN(Decoder decoder, Decoder::Parse(decoder_field));

  int32_t max_id = bpe->max_id();
  absl::flat_hash_map<int32_t, DecodedToken> decoded;
  std::vector<AddedToken> raw, normalized;
  for (AddedToken& token : added) {
    RETURN_IF_ERROR(CheckAgainstVocabulary(root, token, *bpe));
    if (token.normalized) RETURN_IF_ERROR(normalizer.Apply(&token.pattern));
    decoded[token.id] = {token.pattern, token.special};
    max_id = std::max(max_id, token.id);
    (token.normalized ? normalized : raw).push_back(token);
  }
  if (max_id < 0) return model_field.ErrorAt(".vocab", "is empty");
  RETURN_IF_ERROR(CheckTemplate(root, post_processor, max_id + 1));
  ASSIGN_OR_RETURN(std::optional<int32_t> bos, ParseBos(config_json, added, *bpe));
  PutBosInFront(bos, &post_processor);
  return std::make_unique<Model>(
      Model{AddedTokenSplitter(std::move(raw)), std::move(normalizer),
            AddedTokenSplitter(std::move(normalized)), std::move(pretokenizer), std::move(bpe),
            std::move(post_processor), std::move(decoder), std::move(decoded), max_id + 1});
}

}  // namespace ballast
