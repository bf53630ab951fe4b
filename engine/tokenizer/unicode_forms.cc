#include "engine/tokenizer/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>
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

struct Range {
  char32_t first;
  char32_t last;
};

// Characters that utf8proc decomposes or reorders, but Hugging Face tokenizers, whose tables are
// those of Unicode 9, leave as they are. Token ids must agree, so they are left here too.
constexpr Range kLeftAlone[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
    {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
    {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

bool IsLeftAlone(char32_t character) {
  const Range* range = std::lower_bound(std::begin(kLeftAlone), std::end(kLeftAlone), character,
                                        [](const Range& r, char32_t c) { return r.last < c; });
  return range != std::end(kLeftAlone) && range->first <= character;
}

void AppendDecomposed(char32_t character, utf8proc_option_t options,
                      std::vector<utf8proc_int32_t>* out) {
  if (IsLeftAlone(character)) {
    out->push_back(static_cast<utf8proc_int32_t>(character));
    return;
  }
  constexpr utf8proc_ssize_t kLongest = 32;  // no decomposition is longer than 18
  utf8proc_int32_t parts[kLongest];
  int boundary = 0;
  const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(character),
                                                         parts, kLongest, options, &boundary);
  CHECK(count >= 0 && count <= kLongest);
  out->insert(out->end(), parts, parts + count);
}

int CombiningClass(utf8proc_int32_t character) {
  if (IsLeftAlone(static_cast<char32_t>(character))) return 0;
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

// Composes in place, between the characters that are left alone.
void Compose(std::vector<utf8proc_int32_t>* text, utf8proc_option_t options) {
  size_t kept = 0;
  for (size_t begin = 0; begin < text->size();) {
    size_t end = begin;
    while (end < text->size() && !IsLeftAlone(static_cast<char32_t>((*text)[end]))) ++end;
    const utf8proc_ssize_t count = utf8proc_normalize_utf32(
        text->data() + begin, static_cast<utf8proc_ssize_t>(end - begin), options);
    CHECK(count >= 0);
    std::copy_n(text->begin() + begin, count, text->begin() + kept);
    kept += static_cast<size_t>(count);
    if (end < text->size()) (*text)[kept++] = (*text)[end++];
    begin = end;
  }
  text->resize(kept);
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
  if (form.compose) Compose(&characters, options);
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
