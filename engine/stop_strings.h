// Finds stop strings in text that arrives piece by piece, across piece borders, and holds text back
// until it is certain that it does not begin a stop string. One step of Knuth-Morris-Pratt per byte
// and stop string, so the cost does not depend on their lengths.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast {

class StopStrings {
 public:
  // `stop` non-empty strings of at most kMaxStopBytes; with none, text passes straight through.
  StopStrings(std::vector<std::string> stop, bool include_stop);

  struct Found {
    std::string text;  // certain text, to be emitted
    int match = -1;    // index of the stop string that was met: nothing more may follow
  };
  // The earliest match wins; among those that end at the same byte, the one that begins first.
  // When pieces and stop strings are whole UTF-8, so is the text. After a match: empty.
  Found Append(std::string_view text);
  // The text held back, once no more will come. Empty after a match.
  std::string Flush();

 private:
  struct Pattern {
    std::string text;
    // border[i]: length of the longest proper prefix of text[0, i] that is its suffix too.
    std::vector<uint16_t> border;
    size_t met = 0;  // how much of `text` the input so far ends with
  };

  std::vector<Pattern> patterns_;
  bool include_stop_;
  bool over_ = false;
  std::string held_;
};

}  // namespace ballast
