#include "engine/tokenizer/regex_syntax.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <vector>

#include "absl/strings/str_join.h"

#include "engine/concat.h"
#include "engine/tokenizer/unicode_additions.h"

namespace ballast {
namespace {

// Members of a class, without its brackets. PCRE2's own \s has U+180E, which Unicode took out.
constexpr std::string_view kSpace =
    R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x00-\x08\x0E-\x1F\x21-\x84\x86-\x9F\xA1-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";
// Outside of classes, and there alone, Onig takes Latin-1's superscripts and fractions for words.
constexpr std::string_view kLatin1WordExtras = R"(\xB2\xB3\xB9\xBC-\xBE)";
constexpr std::string_view kHex = "0-9A-Fa-f";

constexpr std::string_view kOptions = "imx-";

constexpr int kMaxClassDepth = 8;

std::string DigitMembers() { return Concat("\\p{Nd}", AddedMembers("Nd")); }

std::string WordMembers() {
  return Concat("\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}", AddedMembers("L"), AddedMembers("M"),
                AddedMembers("Nd"));
}

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
        ASSIGN_OR_RETURN(std::string escape, Escape());
        out_ += escape;
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

  struct Property {
    std::string members;  // of a class
    bool negated = false;
  };

  // \p{..} and \P{..}, already past the letter. Onig's script names mean the script alone.
  absl::StatusOr<Property> ReadProperty(char letter) {
    const size_t close = in_.find('}', at_);
    if (at_ >= in_.size() || in_[at_] != '{' || close == in_.npos) {
      return absl::InvalidArgumentError("a property (\\p) without its braces");
    }
    std::string_view name = in_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    Property property;
    property.negated = letter == 'P';
    if (name.starts_with("^")) {
      property.negated = !property.negated;
      name.remove_prefix(1);
    }
    constexpr size_t kLongestName = 64;
    const bool category = name.size() <= 2;
    const std::string script = Concat("\\p{sc:", name, "}");
    const bool is_script = !category && name.size() < kLongestName && Pcre2Compiles(script);
    property.members = is_script ? script : Concat("\\p{", name, "}");
    property.members += AddedMembers(name);
    return property;
  }

  // \uHHHH, already past the letter.
  std::string CodePoint() {
    const std::string_view digits = in_.substr(at_, 4);
    at_ += digits.size();
    return Concat("\\x{", digits, "}");
  }

  // An escape outside of classes, at its backslash.
  absl::StatusOr<std::string> Escape() {
    ++at_;
    if (at_ >= in_.size()) return "\\";
    const std::string word_members = Concat(WordMembers(), kLatin1WordExtras);
    const std::string word = Concat("[", word_members, "]");
    const char letter = in_[at_++];
    switch (letter) {
      case 's':
        return Concat("[", kSpace, "]");
      case 'S':
        return Concat("[^", kSpace, "]");
      case 'w':
        return word;
      case 'W':
        return Concat("[^", word_members, "]");
      case 'd':
        return Concat("[", DigitMembers(), "]");
      case 'D':
        return Concat("[^", DigitMembers(), "]");
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
      case 'P': {
        ASSIGN_OR_RETURN(Property property, ReadProperty(letter));
        return Concat(property.negated ? "[^" : "[", property.members, "]");
      }
      default:
        return std::string({'\\', letter});
    }
  }

  // An escape inside a class, at its backslash.
  absl::Status ClassEscape(Operand* operand) {
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
        *members += WordMembers();
        break;
      case 'd':
        *members += DigitMembers();
        break;
      case 'h':
        *members += kHex;
        break;
      case 'W':
        operand->elsewise.push_back(Concat("[^", WordMembers(), "]"));
        break;
      case 'D':
        operand->elsewise.push_back(Concat("[^", DigitMembers(), "]"));
        break;
      case 'H':
        operand->elsewise.push_back(Concat("[^", kHex, "]"));
        break;
      case 'b':
        *members += "\\x08";
        break;
      case 'p':
      case 'P': {
        at_ += 2;
        ASSIGN_OR_RETURN(Property property, ReadProperty(letter));
        if (property.negated) {
          operand->elsewise.push_back(Concat("[^", property.members, "]"));
        } else {
          *members += property.members;
        }
        return absl::OkStatus();
      }
      default: {
        ASSIGN_OR_RETURN(std::string escape, Escape());
        *members += escape;
        return absl::OkStatus();
      }
    }
    at_ += 2;
    return absl::OkStatus();
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
        RETURN_IF_ERROR(ClassEscape(&operands.back()));
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
