#include "engine/tokenizer/post_processor.h"

#include <string_view>

#include "engine/concat.h"
#include "engine/tokenizer/limits.h"

namespace ballast {
namespace {

constexpr size_t kMaxSpecials = 1024;  // on one side; real templates have one or two

// The ids that special token `name` of a template stands for.
absl::Status AppendSpecial(const JsonField& processor, const JsonField& piece,
                           std::string_view name, std::vector<int32_t>* out) {
  ASSIGN_OR_RETURN(JsonField specials, processor.Get("special_tokens"));
  ASSIGN_OR_RETURN(std::optional<JsonField> special, specials.Find(name));
  if (!special) {
    return piece.Error(Concat("names ", QuoteForError(name), ", which special_tokens lacks"));
  }
  ASSIGN_OR_RETURN(JsonField list, special->Get("ids"));
  ASSIGN_OR_RETURN(std::vector<JsonField> ids, list.AsArray());
  for (const JsonField& id : ids) {
    ASSIGN_OR_RETURN(int64_t number, id.AsInt(0, kMaxTokenId));
    out->push_back(static_cast<int32_t>(number));
    if (out->size() > kMaxSpecials) {
      return piece.Error(Concat("brings the special tokens beside a text above ", kMaxSpecials));
    }
  }
  return absl::OkStatus();
}

absl::Status AddTemplate(const JsonField& processor, PostProcessor* out) {
  ASSIGN_OR_RETURN(JsonField single, processor.Get("single"));
  ASSIGN_OR_RETURN(std::vector<JsonField> pieces, single.AsArray());
  std::vector<int32_t> before, after;
  bool seen = false;
  for (const JsonField& piece : pieces) {
    ASSIGN_OR_RETURN(std::optional<JsonField> special, piece.Find("SpecialToken"));
    if (special) {
      ASSIGN_OR_RETURN(std::string_view name, special->GetString("id"));
      RETURN_IF_ERROR(AppendSpecial(processor, *special, name, seen ? &after : &before));
      continue;
    }
    ASSIGN_OR_RETURN(JsonField sequence, piece.Get("Sequence"));
    ASSIGN_OR_RETURN(std::string_view name, sequence.GetString("id"));
    if (name != "A" || seen) return piece.Error("is not the one sequence A that is expected");
    seen = true;
  }
  if (!seen) return single.Error("lacks the sequence A");
  if (out->before.size() + before.size() > kMaxSpecials ||
      out->after.size() + after.size() > kMaxSpecials) {
    return single.Error(Concat("brings the special tokens beside a text above ", kMaxSpecials));
  }
  // A later template of a Sequence goes around the earlier ones.
  out->before.insert(out->before.begin(), before.begin(), before.end());
  out->after.insert(out->after.end(), after.begin(), after.end());
  return absl::OkStatus();
}

absl::Status Add(const JsonField& field, int depth, PostProcessor* out) {
  if (depth > kMaxSequenceDepth) return field.Error("is nested too deeply");
  ASSIGN_OR_RETURN(std::string_view type, field.GetString("type"));
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return AddTemplate(field, out);
  if (type != "Sequence") {
    return field.ErrorAt(
        ".type", Concat("is ", QuoteForError(type), ", a post-processor that is not supported"));
  }
  ASSIGN_OR_RETURN(JsonField list, field.Get("processors"));
  ASSIGN_OR_RETURN(std::vector<JsonField> steps, list.AsArray());
  for (const JsonField& step : steps) RETURN_IF_ERROR(Add(step, depth + 1, out));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::Parse(const std::optional<JsonField>& field) {
  PostProcessor processor;
  if (field) RETURN_IF_ERROR(Add(*field, 0, &processor));
  return processor;
}

void PostProcessor::Apply(std::vector<int32_t>* ids) const {
  ids->insert(ids->begin(), before.begin(), before.end());
  ids->insert(ids->end(), after.begin(), after.end());
}

}  // namespace ballast
