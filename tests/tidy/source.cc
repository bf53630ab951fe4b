#include "tests/tidy/source.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace ballast::tidy {
namespace {

// The state that Blank carries from one character to the next.
class Blanker {
 public:
  explicit Blanker(std::string_view text) : text_(text), out_(text) {}

  std::string Run() {
    while (at_ < text_.size()) {
      if (text_.substr(at_, 2) == "//") {
        BlankTo(text_.find('\n', at_));
      } else if (text_.substr(at_, 2) == "/*") {
        BlankTo(After("*/", at_ + 2));
      } else if (text_.substr(at_, 2) == "R\"" && (at_ == 0 || !IsWordChar(text_[at_ - 1]))) {
        RawString();
      } else if (text_[at_] == '"' || (text_[at_] == '\'' && !IsDigitSeparator())) {
        Literal(text_[at_]);
      } else {
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  bool IsDigitSeparator() const {
    return at_ > 0 && std::isxdigit(static_cast<unsigned char>(text_[at_ - 1])) != 0;
  }
  size_t After(std::string_view mark, size_t from) const {
    const size_t found = text_.find(mark, from);
    return found == std::string_view::npos ? found : found + mark.size();
  }
  void BlankTo(size_t end) {
    end = std::min(end, text_.size());
    for (; at_ < end; ++at_) {
      if (text_[at_] != '\n') out_[at_] = ' ';
    }
  }
  void RawString() {
    const size_t open = text_.find('(', at_);
    if (open == std::string_view::npos) return BlankTo(open);
    const std::string mark = ")" + std::string(text_.substr(at_ + 2, open - at_ - 2)) + "\"";
    BlankTo(After(mark, open));
  }
  void Literal(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote && text_[end] != '\n') {
      end += text_[end] == '\\' ? 2 : 1;
    }
    ++at_;
    BlankTo(end);
    if (at_ < text_.size()) ++at_;
  }

  std::string_view text_;
  std::string out_;
  size_t at_ = 0;
};

enum class Brace { kNamespace, kType, kFunction, kInitializer, kBlock };

bool EndsWithWord(std::string_view text, std::string_view word) {
  return text.ends_with(word) &&
         (text.size() == word.size() || !IsWordChar(text[text.size() - word.size() - 1]));
}

// What a brace outside functions opens, from the text since the statement's begin.
Brace KindOf(std::string_view statement) {
  statement = Trim(statement);
  if (HasWord(statement, "namespace") || statement.starts_with("extern \"")) {
    return Brace::kNamespace;
  }
  const bool has_parameters = statement.find('(') != std::string_view::npos;
  const std::array<std::string_view, 4> types = {"class", "struct", "union", "enum"};
  const bool has_alignment = HasWord(statement, "alignas");
  for (const std::string_view type : types) {
    if ((!has_parameters || has_alignment) && HasWord(statement, type)) return Brace::kType;
  }
  if (!has_parameters || statement.ends_with('=') || statement.ends_with(',') ||
      statement.ends_with('(')) {
    return Brace::kInitializer;
  }
  // `Foo::Foo(int a) : a_(a), b_{...} {`: the first brace belongs to b_.
  const std::array<std::string_view, 4> after_parameters = {"const", "noexcept", "override",
                                                            "final"};
  const bool after_name =
      IsWordChar(statement.back()) && statement.find("->") == std::string_view::npos &&
      std::none_of(after_parameters.begin(), after_parameters.end(),
                   [&](std::string_view word) { return EndsWithWord(statement, word); });
  return after_name ? Brace::kInitializer : Brace::kFunction;
}

// The name before the first parenthesis; for TEST(Suite, Name) all of it.
std::string NameOf(std::string_view statement) {
  const size_t open = statement.find('(');
  std::string_view head = Trim(statement.substr(0, open));
  if (head.starts_with("TEST")) return std::string(Trim(statement));
  const size_t space = head.find_last_of(" \n\t*&");
  return std::string(space == std::string_view::npos ? head : head.substr(space + 1));
}

std::string WithoutDirectives(std::string text) {
  bool in_directive = false;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    in_directive = in_directive || Trim(line).starts_with('#');
    const bool goes_on = line.ends_with('\\');
    if (in_directive) std::fill(text.begin() + begin, text.begin() + end, ' ');
    in_directive = in_directive && goes_on;
    begin = end + 1;
  }
  return text;
}

}  // namespace

std::string Blank(std::string_view text) { return Blanker(text).Run(); }

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

bool IsWordChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

size_t FindWord(std::string_view text, std::string_view word, size_t from) {
  for (size_t at = text.find(word, from); at != std::string_view::npos;
       at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !IsWordChar(text[at - 1])) && (end == text.size() || !IsWordChar(text[end]))) {
      return at;
    }
  }
  return std::string_view::npos;
}

bool HasWord(std::string_view text, std::string_view word) {
  return FindWord(text, word) != std::string_view::npos;
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\n\r") - begin + 1);
}

std::vector<Include> Includes(const SourceFile& file) {
  std::vector<Include> found;
  int number = 0;
  for (const std::string_view raw : Lines(file.text)) {
    ++number;
    std::string_view line = Trim(raw);
    if (!line.starts_with('#')) continue;
    line = Trim(line.substr(1));
    if (!line.starts_with("include")) continue;
    line = Trim(line.substr(7));
    if (line.size() < 2 || (line[0] != '"' && line[0] != '<')) continue;
    const size_t end = line.find(line[0] == '"' ? '"' : '>', 1);
    if (end == std::string_view::npos) continue;
    found.push_back({number, std::string(line.substr(1, end - 1)), line[0] == '<'});
  }
  return found;
}

std::vector<Function> Functions(const SourceFile& file) {
  const std::string text = WithoutDirectives(Blank(file.text));
  std::vector<Function> found;
  std::vector<Brace> open;    // braces around this place
  size_t function_depth = 0;  // open.size() inside the current function; 0: outside
  size_t begin = 0;           // of the statement
  int line = 1;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') ++line;
    if (c == ';' && function_depth == 0 && (open.empty() || open.back() != Brace::kInitializer)) {
      begin = at + 1;
    } else if (c == '{') {
      const std::string_view statement(text.data() + begin, at - begin);
      const bool nested =
          function_depth > 0 || (!open.empty() && open.back() == Brace::kInitializer);
      open.push_back(nested ? Brace::kInitializer : KindOf(statement));
      if (open.back() == Brace::kFunction) {
        function_depth = open.size();
        found.push_back({NameOf(statement), line, 0});
      }
      if (open.back() != Brace::kInitializer) begin = at + 1;
    } else if (c == '}' && !open.empty()) {
      if (open.size() == function_depth) {
        found.back().lines = line - found.back().line + 1;
        function_depth = 0;
      }
      if (open.back() != Brace::kInitializer) begin = at + 1;
      open.pop_back();
    }
  }
  return found;
}

}  // namespace ballast::tidy
