// Oniguruma's (Ruby) regular expressions, which tokenizer.json is written in, said in PCRE2's.
//
// Where the two read the same letters differently, the letters change: \s \w \d \h \b \v, classes
// inside classes and && between them, \p{Script} (PCRE2 takes script extensions), \uHHHH, {,n},
// (?m). https://github.com/kkos/oniguruma/blob/master/doc/RE and pcre2pattern(3).
#pragma once

#include <string>
#include <string_view>

#include "engine/status.h"

namespace ballast {

// INVALID_ARGUMENT says what is not supported, without naming a file; a pattern that is simply
// malformed may come back as it is, for PCRE2 to refuse. To be compiled with PCRE2_UTF, PCRE2_UCP
// and PCRE2_MULTILINE.
absl::StatusOr<std::string> ToPcre2Syntax(std::string_view oniguruma);

}  // namespace ballast
