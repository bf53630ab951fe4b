#include "engine/tokenizer/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "engine/status.h"
#include "engine/tokenizer/utf8.h"

namespace ballast {
namespace {

// Below U+0300 no character composes with another and none decomposes canonically *when the text
// is to be composed again*; their first byte is below 0xCC.
bool IsSurelyComposed(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0xCC; });
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void AppendDecomposed(char32_t character, utf8proc_option_t options,
                      std::vector<utf8proc_int32_t>* out) {
  constexpr utf8proc_ssize_t kLongest = 32;  // no decomposition is longer than 18
  utf8proc_int32_t parts[kLongest];
  int boundary = 0;
  const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character),
                                                         parts, kLongest, options, &boundary);
  CHECK(count >= 0 && count <= kLongest);
  out->insert(out->end(), parts, parts + count);
}

int CombiningClass(utf8proc_int32_t character) {
  return static_cast<int>(utf8proc_get_property(character)->combining_class);
}

// utf8proc's own ordering of marks swaps neighbours, which takes the square of a run's length.
void OrderMarks(std::vector<utf8proc_int32_t>* text) {
  for (size_t begin = 0; begin < text->size();) {
    if (CombiningClass((*text)[begin]) == 0) {
      ++begin;
      continue;
    }
    size_t end = begin + 1;
    while (end < text->size() && CombiningClass((*text)[end]) != 0) ++end;
    if (end - begin > 1) {
      std::stable_sort(text->begin() + begin, text->begin() + end,
                       [](utf8proc_int32_t a, utf8proc_int32_t b) {
                         return CombiningClass(a) < CombiningClass(b);
                       });
    }
    begin = end;
  }
}

}  // namespace

std::string ToUnicodeForm(std::string_view text, UnicodeForm form) {
  const bool unchanged =
      form.compose && !form.compatibility ? IsSurelyComposed(text) : IsAscii(text);
  if (unchanged) return std::string(text);
  const auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (form.compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (form.compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> characters;
  characters.reserve(text.size());
  for (size_t at = 0; at < text.size(); at += Utf8Length(text[at])) {
    AppendDecomposed(Utf8At(text, at), options, &characters);
  }
  OrderMarks(&characters);
  if (form.compose) {
    const utf8proc_ssize_t count = utf8proc_normalize_utf32(
        characters.data(), static_cast<utf8proc_ssize_t>(characters.size()), options);
    CHECK(count >= 0);
    characters.resize(static_cast<size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (utf8proc_int32_t character : characters) {
    AppendUtf8(static_cast<char32_t>(character), &out);
  }
  return out;
}

void AppendLowercase(char32_t character, std::string* out) {
  if (character == 0x130) {  // the only character whose lower case is two
    *out += "i\xCC\x87";
    return;
  }
  AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(character))),
             out);
}

bool IsMark(char32_t character) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(character))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return true;
    default:
      return false;
  }
}

}  // namespace ballast
