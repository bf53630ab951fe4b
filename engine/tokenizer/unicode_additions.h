// Characters that Unicode gained after the tables of Debian's PCRE2.
//
// PCRE2 10.42 knows Unicode 14.0; Hugging Face tokenizers 0.23 splits by Unicode 16.0, whose newer
// characters include emoji in daily use. To a newer PCRE2 these rows say nothing new.
#pragma once

#include <string>
#include <string_view>

namespace ballast {

// The newer characters of a general category, or of all that begin with a letter ("L" has Lu, Ll,
// Lt, Lm and Lo), or of the script "Han": as ranges to stand inside a PCRE2 class. Empty for other
// names.
std::string AddedMembers(std::string_view property);

}  // namespace ballast
