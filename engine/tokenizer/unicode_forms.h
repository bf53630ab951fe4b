// Unicode normalisation forms by utf8proc's tables, in time linear in the text (but for sorting
// the marks of one character, n log n).
#pragma once

#include <string>
#include <string_view>

namespace ballast {

struct UnicodeForm {
  bool compose;        // NFC and NFKC, against NFD and NFKD
  bool compatibility;  // NFKC and NFKD
};

// `text` must be UTF-8.
std::string ToUnicodeForm(std::string_view text, UnicodeForm form);

// One character to lower case, as Unicode's SpecialCasing has it without context.
void AppendLowercase(char32_t character, std::string* out);

// General category Mn, Mc or Me.
bool IsMark(char32_t character);

}  // namespace ballast
