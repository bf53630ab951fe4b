// Source text as the tidy rules read it: a file, and C++ without comments and literals.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ballast::tidy {

struct SourceFile {
  std::string path;  // from the repository's root, '/' between folders
  std::string text;
};

// The text with the contents of comments, string and character literals replaced by spaces. Lines
// keep their numbers and lengths; quotes stay.
std::string Blank(std::string_view text);

std::vector<std::string_view> Lines(std::string_view text);

bool IsWordChar(char c);
// Where `word` stands in `text` as a whole word at or after `from`; npos: nowhere.
size_t FindWord(std::string_view text, std::string_view word, size_t from = 0);
bool HasWord(std::string_view text, std::string_view word);

std::string_view Trim(std::string_view text);

// One #include: its target as written, without quotes or brackets.
struct Include {
  int line = 0;
  std::string target;
  bool angled = false;
};
std::vector<Include> Includes(const SourceFile& file);

// A function with a body. Lambdas and local types belong to the function around them.
struct Function {
  std::string name;  // "Engine::Submit", or the macro's words for a test
  int line = 0;      // of the opening brace
  int lines = 0;     // from the opening brace's line to the closing one's
};
// Approximate: reads braces and what stands before them, not the language.
std::vector<Function> Functions(const SourceFile& file);

}  // namespace ballast::tidy
