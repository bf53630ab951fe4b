// Token files of published routing (tests/data/loads, ../shared/data/loads): which experts each
// token chose in each layer.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace ballast {

struct RoutedTokens {
  int experts_per_token = 0;
  std::vector<std::vector<int32_t>> layers;  // [layers] of [tokens * experts_per_token]
  size_t tokens() const {
    return layers.empty() ? 0 : layers[0].size() / static_cast<size_t>(experts_per_token);
  }
};

// Lines "seq,pos,L1,...": cells of blank-separated ids; '#' comments and the heading are skipped. A
// name in .gz goes through gzip. No layers in the answer when there is no such file.
inline RoutedTokens ReadRoutedTokens(const std::string& path) {
  RoutedTokens routed;
  const bool packed = path.size() > 3 && path.compare(path.size() - 3, 3, ".gz") == 0;
  std::FILE* file = packed ? popen(("gzip -dc '" + path + "' 2>/dev/null").c_str(), "r")
                           : std::fopen(path.c_str(), "r");
  if (file == nullptr) {
    return routed;
  }
  char line[4096];
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (line[0] < '0' || line[0] > '9') {
      continue;
    }
    size_t cell = 0;
    int in_cell = 0;
    for (const char* at = line; *at != '\0';) {
      if (*at == ',' || *at == ' ' || *at == '\n' || *at == '\r') {
        cell += *at == ',' ? 1 : 0;
        in_cell = *at == ',' ? 0 : in_cell;
        ++at;
        continue;
      }
      int32_t id = 0;
      for (; *at >= '0' && *at <= '9'; ++at) {
        id = id * 10 + (*at - '0');
      }
      if (cell >= 2) {
        if (routed.layers.size() < cell - 1) {
          routed.layers.resize(cell - 1);
        }
        routed.layers[cell - 2].push_back(id);
        routed.experts_per_token = ++in_cell;
      }
    }
  }
  packed ? pclose(file) : std::fclose(file);
  return routed;
}

// Rows [ranks (source) * experts] of `tokens` tokens of a layer from `first` on, the tokens dealt
// to the ranks in runs of equal length.
inline std::vector<int32_t> RowsOfStep(const RoutedTokens& routed, size_t layer, size_t first,
                                       size_t tokens, int ranks, int experts) {
  std::vector<int32_t> rows(static_cast<size_t>(ranks) * experts, 0);
  const size_t k = static_cast<size_t>(routed.experts_per_token);
  for (size_t i = 0; i < tokens; ++i) {
    const size_t source = i * static_cast<size_t>(ranks) / tokens;
    for (size_t j = 0; j < k; ++j) {
      ++rows[source * experts + routed.layers[layer][(first + i) * k + j]];
    }
  }
  return rows;
}

}  // namespace ballast
