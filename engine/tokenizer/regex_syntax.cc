#include "engine/tokenizer/regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <vector>

#include "absl/strings/str_join.h"

#include "engine/concat.h"

namespace ballast {
namespace {

// Members of a class, without its brackets. PCRE2's own \s has U+180E, which Unicode took out.
constexpr std::string_view kSpace =
    R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x00-\x08\x0E-\x1F\x21-\x84\x86-\x9F\xA1-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHex = "0-9A-Fa-f";

constexpr std::string_view kOptions = "imx-";

constexpr int kMaxClassDepth = 8;

bool Pcre2Compiles(const std::string& pattern) {
  int error;
  PCRE2_SIZE offset;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        out_ += Escape();
      } else if (in_[at_] == '[') {
        ASSIGN_OR_RETURN(std::string one_character, Class(0));
        out_ += one_character;
      } else if (Take("(?")) {
        Options();
      } else if (Take("{,")) {
        out_ += "{0,";
      } else {
        out_ += in_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  // What one operand of && is made of.
  struct Operand {
    std::string members;                // of a plain class
    std::vector<std::string> elsewise;  // what a plain class can't hold
  };

  bool Take(std::string_view text) {
    if (!in_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }

  // Ruby's (?m) lets the dot match newlines, which is PCRE2's (?s).
  void Options() {
    out_ += "(?";
    while (at_ < in_.size() && kOptions.find(in_[at_]) != kOptions.npos) {
      out_ += in_[at_] == 'm' ? 's' : in_[at_];
      ++at_;
    }
  }

  // \p{..} and \P{..}, already past the letter. Onig's script names mean the script alone.
  std::string Property(char letter) {
    const size_t close = in_.find('}', at_);
    if (at_ >= in_.size() || in_[at_] != '{' || close == in_.npos) {
      return Concat("\\", std::string(1, letter));
    }
    std::string_view name = in_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    bool negated = letter == 'P';
    if (name.starts_with("^")) {
      negated = !negated;
      name.remove_prefix(1);
    }
    constexpr size_t kLongestName = 64;
    const bool category = name.size() <= 2;
    const std::string script = Concat("{sc:", name, "}");
    const bool is_script =
        !category && name.size() < kLongestName && Pcre2Compiles(Concat("\\p", script));
    return Concat(negated ? "\\P" : "\\p", is_script ? script : Concat("{", name, "}"));
  }

  // \uHHHH, already past the letter.
  std::string CodePoint() {
    const std::string_view digits = in_.substr(at_, 4);
    at_ += digits.size();
    return Concat("\\x{", digits, "}");
  }

  // An escape outside of classes, at its backslash.
  std::string Escape() {
    ++at_;
    if (at_ >= in_.size()) return "\\";
    const std::string word = Concat("[", kWord, "]");
    const char letter = in_[at_++];
    switch (letter) {
      case 's':
        return Concat("[", kSpace, "]");
      case 'S':
        return Concat("[^", kSpace, "]");
      case 'w':
        return word;
      case 'W':
        return Concat("[^", kWord, "]");
      case 'd':
        return "\\p{Nd}";
      case 'D':
        return "\\P{Nd}";
      case 'h':
        return Concat("[", kHex, "]");
      case 'H':
        return Concat("[^", kHex, "]");
      case 'b':
        return Concat("(?:(?<=", word, ")(?!", word, ")|(?<!", word, ")(?=", word, "))");
      case 'B':
        return Concat("(?:(?<=", word, ")(?=", word, ")|(?<!", word, ")(?!", word, "))");
      case 'v':
        return "\\x0B";
      case 'u':
        return CodePoint();
      case 'p':
      case 'P':
        return Property(letter);
      default:
        return std::string({'\\', letter});
    }
  }

  // An escape inside a class.
  void ClassEscape(Operand* operand) {
    const char letter = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    std::string* members = &operand->members;
    switch (letter) {
      case 's':
        *members += kSpace;
        break;
      case 'S':
        *members += kNotSpace;
        break;
      case 'w':
        *members += kWord;
        break;
      case 'h':
        *members += kHex;
        break;
      case 'W':
      case 'H':
        operand->elsewise.push_back(Escape());
        return;
      case 'b':
        *members += "\\x08";
        break;
      default:
        *members += Escape();
        return;
    }
    at_ += 2;
  }

  // A class, at its opening bracket; the result matches one character.
  absl::StatusOr<std::string> Class(int depth) {
    if (depth > kMaxClassDepth) {
      return absl::InvalidArgumentError("classes nested too deeply");
    }
    ++at_;
    const bool negated = Take("^");
    std::vector<Operand> operands(1);
    if (Take("]")) operands.back().members = "\\]";
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_.substr(at_).starts_with("[:")) {
        return absl::InvalidArgumentError("POSIX classes ([:name:]) are not supported");
      }
      if (in_[at_] == '[') {
        ASSIGN_OR_RETURN(std::string nested, Class(depth + 1));
        operands.back().elsewise.push_back(std::move(nested));
      } else if (Take("&&")) {
        operands.emplace_back();
      } else if (in_[at_] == '\\') {
        ClassEscape(&operands.back());
      } else {
        operands.back().members += in_[at_++];
      }
    }
    if (!Take("]")) return absl::InvalidArgumentError("a class lacks its closing bracket");
    return Join(operands, negated);
  }

  static absl::StatusOr<std::string> Join(const std::vector<Operand>& operands, bool negated) {
    if (operands.size() == 1 && operands[0].elsewise.empty()) {
      return Concat(negated ? "[^" : "[", operands[0].members, "]");
    }
    std::string all;
    for (size_t i = operands.size(); i-- > 0;) {
      std::vector<std::string> choices = operands[i].elsewise;
      if (!operands[i].members.empty()) {
        choices.push_back(Concat("[", operands[i].members, "]"));
      }
      if (choices.empty()) return absl::InvalidArgumentError("an empty class beside &&");
      // All operands but the first look ahead at the character that the first then takes.
      const std::string choice = absl::StrJoin(choices, "|");
      all += Concat(i > 0 ? "(?=" : "(?:", choice, ")");
    }
    if (negated) return Concat("(?:(?!", all, ")(?s:.))");
    return Concat("(?:", all, ")");
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

absl::StatusOr<std::string> ToPcre2Syntax(std::string_view oniguruma) {
  return Translator(oniguruma).Run();
}

}  // namespace ballast
