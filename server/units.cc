#include "server/units.h"

#include <utf8proc.h>

#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ballast {
namespace {

struct Unit {
  std::string_view name;
  double scale;
};

constexpr std::array<Unit, 10> kByteUnits = {{{"", 1},
                                              {"B", 1},
                                              {"kB", 1e3},
                                              {"MB", 1e6},
                                              {"GB", 1e9},
                                              {"TB", 1e12},
                                              {"KiB", 1024.0},
                                              {"MiB", 1024.0 * 1024},
                                              {"GiB", 1024.0 * 1024 * 1024},
                                              {"TiB", 1024.0 * 1024 * 1024 * 1024}}};
constexpr std::array<Unit, 5> kTimeUnits = {
    {{"", 1}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}}};

// Debian's Abseil has a string_view of its own.
absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

// Whole numbers above 2^53 would be rounded on their way through a double.
constexpr double kExactWhole = 9007199254740992.0;

template <size_t N>
absl::StatusOr<double> ParseScaled(std::string_view text, const std::array<Unit, N>& units,
                                   std::string_view expected) {
  const std::string trimmed(absl::StripAsciiWhitespace(ToAbsl(text)));
  size_t split = trimmed.size();
  while (split > 0 && absl::ascii_isalpha(trimmed[split - 1])) --split;
  const std::string number(absl::StripTrailingAsciiWhitespace(trimmed.substr(0, split)));
  const std::string suffix = trimmed.substr(split);
  for (const Unit& unit : units) {
    if (!absl::EqualsIgnoreCase(ToAbsl(unit.name), suffix)) continue;
    absl::StatusOr<double> value = ParseNumber(number);
    if (!value.ok() || *value < 0) break;
    return *value * unit.scale;
  }
  return BadValue(text, expected);
}

}  // namespace

absl::Status BadValue(std::string_view found, std::string_view expected) {
  constexpr size_t kShown = 200;
  std::string shown(found.substr(0, kShown));
  if (found.size() > kShown) shown += "...";
  return absl::InvalidArgumentError(
      absl::StrCat("found '", shown, "', expected ", ToAbsl(expected)));
}

absl::StatusOr<int64_t> ParseCount(std::string_view text) {
  int64_t whole = 0;
  if (absl::SimpleAtoi(ToAbsl(text), &whole)) return whole;
  const absl::StatusOr<double> number = ParseNumber(text);
  if (!number.ok() || *number != std::floor(*number) || std::abs(*number) > kExactWhole) {
    return BadValue(text, "a whole number");
  }
  return static_cast<int64_t>(*number);
}

absl::StatusOr<double> ParseNumber(std::string_view text) {
  double value = 0;
  if (!absl::SimpleAtod(ToAbsl(text), &value) || !std::isfinite(value)) {
    return BadValue(text, "a number");
  }
  return value;
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  constexpr std::string_view kExpected = "a size such as 512MiB, 2GiB or 1e9";
  ASSIGN_OR_RETURN(const double bytes, ParseScaled(text, kByteUnits, kExpected));
  if (bytes > kExactWhole) return BadValue(text, kExpected);
  return static_cast<int64_t>(std::llround(bytes));
}

absl::StatusOr<double> ParseSeconds(std::string_view text) {
  return ParseScaled(text, kTimeUnits, "a time such as 500ms, 30s or 2m");
}

std::string FormatBytes(int64_t bytes) {
  static constexpr std::array<const char*, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::abs(value) >= 1024 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  if (value == std::floor(value)) return absl::StrFormat("%.0f %s", value, kNames[unit]);
  return absl::StrFormat("%.2f %s", value, kNames[unit]);
}

std::string FormatSeconds(double seconds) {
  if (seconds < 1 && seconds > 0) return absl::StrFormat("%gms", seconds * 1e3);
  return absl::StrFormat("%gs", seconds);
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  constexpr std::string_view kExpected = "HOST:PORT such as 127.0.0.1:7000 or [::1]:7000";
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return BadValue(text, kExpected);
  std::string_view host = text.substr(0, colon);
  if (host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return BadValue(text, kExpected);
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return BadValue(text, kExpected);
  }
  const std::string_view digits = text.substr(colon + 1);
  int port = 0;
  for (const char c : digits) {
    if (!absl::ascii_isdigit(c)) return BadValue(text, kExpected);
  }
  if (!absl::SimpleAtoi(ToAbsl(digits), &port) || port > std::numeric_limits<uint16_t>::max()) {
    return BadValue(text, "a port of 0 to 65535 after the host");
  }
  return HostPort{std::string(host), port};
}

std::string FormatHostPort(std::string_view host, int port) {
  const std::string name(host);
  return absl::StrContains(name, ":") ? absl::StrCat("[", name, "]:", port)
                                      : absl::StrCat(name, ":", port);
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    utf8proc_int32_t point = 0;
    const utf8proc_ssize_t read =
        utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                         static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    if (read <= 0) return at;
    at += static_cast<size_t>(read);
  }
  return at;
}

}  // namespace ballast
