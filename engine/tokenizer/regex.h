// Regular expressions of tokenizer.json, matched by PCRE2 (its JIT where the machine allows one).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "engine/status.h"

namespace ballast {

// A compiled pattern. Immutable; any number of threads may search with it, each by its own
// RegexSearch.
class Regex {
 public:
  // `pattern` in Oniguruma's syntax. INVALID_ARGUMENT, not naming a file, says what is wrong.
  static absl::StatusOr<Regex> Compile(std::string_view pattern);
  // Matches `text` itself.
  static absl::StatusOr<Regex> Literal(std::string_view text);

  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

 private:
  friend class RegexSearch;
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

// A search for one regex, text after text. One thread's; the regex must outlive it.
class RegexSearch {
 public:
  explicit RegexSearch(const Regex& regex);
  RegexSearch(RegexSearch&&) noexcept;
  ~RegexSearch();

  // Begins at the start of `text`, which must be UTF-8 and stay where it is. Look-around sees
  // nothing beyond it.
  void Start(std::string_view text);

  // The next match, as byte offsets; the order and the treatment of empty matches are those of the
  // onig crate's find_iter. False at the end, or when a limit of PCRE2 stopped it: see `status`.
  bool Next(size_t* start, size_t* end);

  // INVALID_ARGUMENT once a match took more steps or memory than a sane pattern needs.
  const absl::Status& status() const { return status_; }

 private:
  struct State;
  int MatchAt(size_t from);

  std::unique_ptr<State> state_;
  std::string_view text_;
  size_t at_ = 0;
  size_t last_match_end_ = 0;
  bool matched_ = false;
  absl::Status status_;
};

}  // namespace ballast
