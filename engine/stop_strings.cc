#include "engine/stop_strings.h"

#include <algorithm>
#include <utility>

#include "engine/request.h"
#include "engine/status.h"

namespace ballast {
namespace {

size_t NextLength(const std::string& text, const std::vector<uint16_t>& border, size_t met,
                  char next) {
  while (met > 0 && text[met] != next) {
    met = border[met - 1];
  }
  return text[met] == next ? met + 1 : 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stop, bool include_stop)
    : include_stop_(include_stop) {
  patterns_.reserve(stop.size());
  for (std::string& text : stop) {
    CHECK(!text.empty() && text.size() <= kMaxStopBytes);
    std::vector<uint16_t> border(text.size(), 0);
    for (size_t i = 1; i < text.size(); ++i) {
      border[i] = static_cast<uint16_t>(NextLength(text, border, border[i - 1], text[i]));
    }
    patterns_.push_back({.text = std::move(text), .border = std::move(border)});
  }
}

StopStrings::Found StopStrings::Append(std::string_view text) {
  if (over_) {
    return {};
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const Pattern* match = nullptr;
    for (Pattern& pattern : patterns_) {
      pattern.met = NextLength(pattern.text, pattern.border, pattern.met, text[i]);
      if (pattern.met == pattern.text.size() &&
          (match == nullptr || pattern.met > match->text.size())) {
        match = &pattern;
      }
    }
    if (match != nullptr) {
      over_ = true;
      std::string certain = std::exchange(held_, {}).append(text.substr(0, i + 1));
      certain.resize(certain.size() - (include_stop_ ? 0 : match->text.size()));
      return {.text = std::move(certain), .match = static_cast<int>(match - patterns_.data())};
    }
  }
  size_t possible = 0;
  for (const Pattern& pattern : patterns_) {
    possible = std::max(possible, pattern.met);
  }
  held_.append(text);
  Found found{.text = held_.substr(0, held_.size() - possible)};
  held_.erase(0, found.text.size());
  return found;
}

std::string StopStrings::Flush() { return std::exchange(held_, {}); }

}  // namespace ballast
