#include "engine/tokenizer/pretokenizer.h"

#include <utility>
#include <variant>

#include "engine/concat.h"
#include "engine/tokenizer/limits.h"
#include "engine/tokenizer/metaspace.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

// What becomes of the matches; see Hugging Face tokenizers' SplitDelimiterBehavior.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// https://github.com/openai/gpt-2/blob/master/src/encoder.py
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kPunctuationPattern = R"([\p{P}$+<=>^`|~])";

struct SplitStep {
  Regex pattern;
  Behavior behavior;
  bool invert;  // the gaps are the matches
};
struct PrefixSpace {};
struct ByteAlphabetStep {};

struct Span {
  size_t begin;
  size_t end;
  bool is_match;
};

// Turns matches and gaps, in order, into pieces.
class Joiner {
 public:
  explicit Joiner(Behavior behavior) : behavior_(behavior) {}

  // The piece that `next` completes, if any.
  std::optional<Span> Add(Span next) {
    if (behavior_ == Behavior::kIsolated) return next;
    if (behavior_ == Behavior::kRemoved) {
      return next.is_match ? std::nullopt : std::optional<Span>(next);
    }
    if (pending_ && Joins(*pending_, next)) {
      pending_->end = next.end;
      pending_->is_match = next.is_match;
      return std::nullopt;
    }
    return std::exchange(pending_, next);
  }
  std::optional<Span> Finish() { return std::exchange(pending_, std::nullopt); }

 private:
  bool Joins(const Span& left, const Span& right) const {
    switch (behavior_) {
      case Behavior::kContiguous:
        return left.is_match == right.is_match;
      case Behavior::kMergedWithPrevious:
        return right.is_match && !left.is_match;
      default:
        return left.is_match && !right.is_match;
    }
  }

  Behavior behavior_;
  std::optional<Span> pending_;
};

absl::StatusOr<Behavior> ParseBehavior(const JsonField& field) {
  ASSIGN_OR_RETURN(std::string_view name, field.AsString());
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return field.Error(Concat("is ", QuoteForError(name), ", which is not supported"));
}

SplitStep KnownSplit(std::string_view pattern, Behavior behavior) {
  absl::StatusOr<Regex> regex = Regex::Compile(pattern);
  CHECK(regex.ok());
  return {*std::move(regex), behavior, false};
}

}  // namespace

struct PreTokenizer::Step {
  std::variant<SplitStep, PrefixSpace, ByteAlphabetStep, Metaspace> kind;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::Status PreTokenizer::AddSplit(const JsonField& field) {
  ASSIGN_OR_RETURN(PatternField pattern, ParsePattern(field));
  absl::StatusOr<Regex> regex =
      pattern.is_regex ? Regex::Compile(pattern.text) : Regex::Literal(pattern.text);
  if (!regex.ok()) return field.ErrorAt(".pattern", Concat("is ", regex.status().message()));
  ASSIGN_OR_RETURN(JsonField behavior_field, field.Get("behavior"));
  ASSIGN_OR_RETURN(Behavior behavior, ParseBehavior(behavior_field));
  ASSIGN_OR_RETURN(bool invert, field.GetBool("invert", false));
  steps_.push_back({SplitStep{*std::move(regex), behavior, invert}});
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddByteLevel(const JsonField& field) {
  ASSIGN_OR_RETURN(bool prefix_space, field.GetBool("add_prefix_space", true));
  ASSIGN_OR_RETURN(bool use_regex, field.GetBool("use_regex", true));
  if (prefix_space) steps_.push_back({PrefixSpace{}});
  if (use_regex) steps_.push_back({KnownSplit(kGpt2Pattern, Behavior::kIsolated)});
  steps_.push_back({ByteAlphabetStep{}});
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddMetaspace(const JsonField& field) {
  ASSIGN_OR_RETURN(Metaspace metaspace, ParseMetaspace(field));
  ASSIGN_OR_RETURN(bool split, field.GetBool("split", true));
  absl::StatusOr<Regex> replacement = Regex::Literal(metaspace.replacement);
  CHECK(replacement.ok());
  steps_.push_back({std::move(metaspace)});
  if (split) {
    steps_.push_back({SplitStep{*std::move(replacement), Behavior::kMergedWithNext, false}});
  }
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddSteps(const JsonField& field, int depth) {
  if (depth > kMaxSequenceDepth || steps_.size() >= kMaxSteps) {
    return field.Error(Concat("is nested too deeply or one of more than ", kMaxSteps, " steps"));
  }
  ASSIGN_OR_RETURN(std::string_view type, field.GetString("type"));
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(JsonField list, field.Get("pretokenizers"));
    ASSIGN_OR_RETURN(std::vector<JsonField> steps, list.AsArray());
    for (const JsonField& step : steps) RETURN_IF_ERROR(AddSteps(step, depth + 1));
  } else if (type == "Split") {
    return AddSplit(field);
  } else if (type == "ByteLevel") {
    return AddByteLevel(field);
  } else if (type == "Metaspace") {
    return AddMetaspace(field);
  } else if (type == "Digits") {
    ASSIGN_OR_RETURN(bool individual, field.GetBool("individual_digits", false));
    steps_.push_back(
        {KnownSplit("\\p{N}", individual ? Behavior::kIsolated : Behavior::kContiguous)});
  } else if (type == "Punctuation") {
    ASSIGN_OR_RETURN(std::optional<JsonField> behavior_field, field.Find("behavior"));
    Behavior behavior = Behavior::kIsolated;
    if (behavior_field) {
      ASSIGN_OR_RETURN(behavior, ParseBehavior(*behavior_field));
    }
    steps_.push_back({KnownSplit(kPunctuationPattern, behavior)});
  } else {
    return field.ErrorAt(
        ".type", Concat("is ", QuoteForError(type), ", a pre-tokenizer that is not supported"));
  }
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const std::optional<JsonField>& field) {
  PreTokenizer pretokenizer;
  if (field) RETURN_IF_ERROR(pretokenizer.AddSteps(*field, 0));
  std::vector<Step>& steps = pretokenizer.steps_;
  if (!steps.empty() && std::holds_alternative<ByteAlphabetStep>(steps.back().kind)) {
    pretokenizer.byte_level_ = true;
    steps.pop_back();  // the BPE model reads bytes directly
  }
  return pretokenizer;
}

PreTokenizer::Run::Run(const PreTokenizer& owner) : owner_(owner) {
  searches_.resize(owner.steps_.size());
  for (size_t i = 0; i < searches_.size(); ++i) {
    if (const auto* split = std::get_if<SplitStep>(&owner.steps_[i].kind)) {
      searches_[i].emplace(split->pattern);
    }
  }
}

absl::Status PreTokenizer::Run::Split(std::string_view text, bool at_start, Sink sink) {
  return From(0, text, at_start, sink);
}

absl::Status PreTokenizer::Run::From(size_t step, std::string_view text, bool at_start, Sink sink) {
  if (text.empty()) return absl::OkStatus();
  if (step == owner_.steps_.size()) return sink(text);
  const auto& kind = owner_.steps_[step].kind;
  if (std::holds_alternative<SplitStep>(kind)) return FromSplit(step, text, at_start, sink);
  if (std::holds_alternative<ByteAlphabetStep>(kind)) {
    return From(step + 1, ToByteAlphabet(text), at_start, sink);
  }
  if (const auto* metaspace = std::get_if<Metaspace>(&kind)) {
    return From(step + 1, ApplyMetaspace(*metaspace, text, at_start), at_start, sink);
  }
  if (text[0] == ' ') return From(step + 1, text, at_start, sink);
  return From(step + 1, Concat(" ", text), at_start, sink);
}

absl::Status PreTokenizer::Run::FromSplit(size_t step, std::string_view text, bool at_start,
                                          Sink sink) {
  const auto& split = std::get<SplitStep>(owner_.steps_[step].kind);
  RegexSearch& search = *searches_[step];
  Joiner joiner(split.behavior);
  const auto emit = [&](std::optional<Span> piece) {
    if (!piece) return absl::OkStatus();
    return From(step + 1, text.substr(piece->begin, piece->end - piece->begin),
                at_start && piece->begin == 0, sink);
  };
  size_t done = 0;
  search.Start(text);
  for (size_t begin, end; search.Next(&begin, &end); done = end) {
    if (done < begin) RETURN_IF_ERROR(emit(joiner.Add({done, begin, split.invert})));
    RETURN_IF_ERROR(emit(joiner.Add({begin, end, !split.invert})));
  }
  if (!search.status().ok()) {
    return absl::InvalidArgumentError(
        Concat("tokenizer.json: field pre_tokenizer: ", search.status().message()));
  }
  if (done < text.size()) RETURN_IF_ERROR(emit(joiner.Add({done, text.size(), split.invert})));
  return emit(joiner.Finish());
}

}  // namespace ballast
