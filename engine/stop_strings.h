// Finds stop strings in text that arrives piece by piece, across piece borders, and holds text back
// until it is certain that it does not begin a stop string.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ballast {

class StopStrings {
 public:
  // `stop` non-empty strings; with none, text passes straight through.
  StopStrings(std::vector<std::string> stop, bool include_stop);

  struct Found {
    std::string text;   // certain text, to be emitted
    int match = -1;     // index of the stop string that was met: nothing more may follow
  };
  // The earliest match wins; among those that end at the same byte, the one that begins first.
  Found Append(std::string_view text);
  // The text held back, once no more will come.
  std::string Flush();

 private:
  std::vector<std::string> stop_;
  bool include_stop_;
  std::string held_;
};

}  // namespace ballast
