// Numbers as people write them in flags and files: sizes, durations, addresses. Pure; any thread.
// Errors are INVALID_ARGUMENT and say what was found and what was expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/status.h"

namespace ballast {

// "found FOUND, expected EXPECTED".
absl::Status BadValue(std::string_view found, std::string_view expected);

// A whole number: "512", "1e6".
absl::StatusOr<int64_t> ParseCount(std::string_view text);
// A finite number: "0.7", "1e-3".
absl::StatusOr<double> ParseNumber(std::string_view text);
// Bytes: "2GiB", "512MiB", "1.5GB", "1e9", "4096". Units are B, kB, MB, GB, TB (powers of 1000) and
// KiB, MiB, GiB, TiB (powers of 1024), in any case. Never negative.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);
// Seconds: "30s", "500ms", "2m", "1h", "30". Never negative.
absl::StatusOr<double> ParseSeconds(std::string_view text);

// "1.5 GiB", "512 MiB", "100 B": for people.
std::string FormatBytes(int64_t bytes);
// "500ms", "30s", "90s": ParseSeconds takes it back.
std::string FormatSeconds(double seconds);

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address
  int port = 0;
};
// "127.0.0.1:7000", "[::1]:0", "localhost:7000". Port 0 is allowed.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);
// The reverse; an address with a colon gets brackets.
std::string FormatHostPort(std::string_view host, int port);

// Offset of the first byte that is not part of valid UTF-8; text.size() when all is.
size_t FirstInvalidUtf8(std::string_view text);

}  // namespace ballast
