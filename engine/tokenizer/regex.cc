#include "engine/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "engine/concat.h"
#include "engine/tokenizer/regex_syntax.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

// Sane patterns backtrack over a run of characters at most a few times, so steps grow with the
// text; exponential ones pass any such limit within milliseconds.
constexpr uint64_t kStepsPerMatch = 100'000;
constexpr uint64_t kStepsPerByte = 32;
constexpr uint32_t kHeapKib = 64 * 1024;  // for the interpreter, where there is no JIT
constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackMax = 8 * 1024 * 1024;
constexpr size_t kMaxPatternBytes = 64 * 1024;  // what Debian's PCRE2 can compile anyway

std::string Pcre2Message(int error) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(error, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

absl::Status CheckSize(std::string_view pattern) {
  if (pattern.size() <= kMaxPatternBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      Concat("a pattern of ", pattern.size(), " bytes, expected at most ", kMaxPatternBytes));
}

struct FreeCompileContext {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : pcre2(compiled) {}
  ~Code() { pcre2_code_free(pcre2); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  static absl::StatusOr<std::unique_ptr<Code>> Compile(std::string_view pattern, uint32_t options) {
    std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(
        pcre2_compile_context_create(nullptr));
    CHECK(context != nullptr);
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error;
    PCRE2_SIZE offset;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     options | PCRE2_UTF, &error, &offset, context.get());
    if (code == nullptr) {
      return absl::InvalidArgumentError(Concat("not a regular expression: ", Pcre2Message(error)));
    }
    // Where the kernel forbids writable code, matching goes on without the JIT.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    return std::make_unique<Code>(code);
  }

  pcre2_code* pcre2;
};

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  RETURN_IF_ERROR(CheckSize(pattern));
  ASSIGN_OR_RETURN(std::string translated, ToPcre2Syntax(pattern));
  // In Ruby's syntax ^ and $ always see lines.
  ASSIGN_OR_RETURN(
      auto code, Code::Compile(translated, PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C));
  return Regex(std::move(code));
}

absl::StatusOr<Regex> Regex::Literal(std::string_view text) {
  RETURN_IF_ERROR(CheckSize(text));
  ASSIGN_OR_RETURN(auto code, Code::Compile(text, PCRE2_LITERAL));
  return Regex(std::move(code));
}

struct RegexSearch::State {
  explicit State(const pcre2_code* compiled)
      : code(compiled),
        data(pcre2_match_data_create_from_pattern(compiled, nullptr)),
        context(pcre2_match_context_create(nullptr)) {
    CHECK(data != nullptr && context != nullptr);
    pcre2_set_heap_limit(context, kHeapKib);
  }
  ~State() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  const pcre2_code* code;
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack = nullptr;
};

RegexSearch::RegexSearch(const Regex& regex)
    : state_(std::make_unique<State>(regex.code_->pcre2)) {}
RegexSearch::RegexSearch(RegexSearch&&) noexcept = default;
RegexSearch::~RegexSearch() = default;

void RegexSearch::Start(std::string_view text) {
  text_ = text;
  at_ = 0;
  matched_ = false;
  const uint64_t steps = kStepsPerMatch + kStepsPerByte * text.size();
  pcre2_set_match_limit(state_->context,
                        static_cast<uint32_t>(std::min<uint64_t>(steps, UINT32_MAX)));
}

int RegexSearch::MatchAt(size_t from) {
  const auto match = [&] {
    return pcre2_match(state_->code, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), from,
                       PCRE2_NO_UTF_CHECK, state_->data, state_->context);
  };
  const int result = match();
  if (result != PCRE2_ERROR_JIT_STACKLIMIT || state_->stack != nullptr) return result;
  // The 32 KiB of the machine's stack that the JIT uses by itself do for all but odd patterns.
  state_->stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr);
  pcre2_jit_stack_assign(state_->context, nullptr, state_->stack);
  return match();
}

bool RegexSearch::Next(size_t* start, size_t* end) {
  while (at_ <= text_.size() && status_.ok()) {
    const int result = MatchAt(at_);
    if (result == PCRE2_ERROR_NOMATCH) {
      at_ = text_.size() + 1;
      return false;
    }
    if (result < 0) {
      status_ = absl::InvalidArgumentError(
          Concat("matching a text of ", text_.size(), " bytes: ", Pcre2Message(result)));
      return false;
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(state_->data);
    *start = std::max<size_t>(ends[0], at_);  // \K may move it, \G and look-behind may not
    *end = std::max<size_t>(ends[1], *start);
    if (*start == *end && matched_ && last_match_end_ == *end) {
      at_ += at_ < text_.size() ? Utf8Length(text_[at_]) : 1;
      continue;
    }
    at_ = *end;
    last_match_end_ = *end;
    matched_ = true;
    return true;
  }
  return false;
}

}  // namespace ballast
