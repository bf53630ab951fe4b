// absl::StrCat that also takes std::string_view: Debian builds Abseil with a string_view of its
// own.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"

namespace ballast {

template <typename... Parts>
std::string Concat(const Parts&... parts) {
  const auto convert = [](const auto& part) -> decltype(auto) {
    if constexpr (std::is_same_v<std::decay_t<decltype(part)>, std::string_view>) {
      return absl::string_view(part.data(), part.size());
    } else {
      return (part);
    }
  };
  return absl::StrCat(convert(parts)...);
}

}  // namespace ballast
