// Reads tests/data/goldens/NAME/golden.safetensors: what Hugging Face transformers computed.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "engine/checkpoint/safetensors.h"
#include "gtest/gtest.h"

namespace ballast::test {

struct Golden {
  std::vector<int32_t> ids;                    // [T]
  std::vector<int32_t> greedy;                 // the tokens after the prompt
  std::vector<float> logits;                   // [T, vocab]
  std::map<int, std::vector<int32_t>> routed;  // layer -> [T, k], order within a token undefined
  int vocab = 0;
};

inline std::string GoldenFolder(const std::string& name) {
  return std::string(BALLAST_SOURCE_DIR) + "/tests/data/goldens/" + name;
}

inline std::string ReadWholeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream contents;
  contents << file.rdbuf();
  return contents.str();
}

inline Golden ReadGolden(const std::string& folder) {
  const std::string bytes = ReadWholeFile(folder + "/golden.safetensors");
  auto entries = ParseSafetensors("golden.safetensors", bytes);
  EXPECT_TRUE(entries.ok()) << entries.status();
  const auto integers = [&](const SafetensorsEntry& e) {
    std::vector<int32_t> values;
    for (size_t at = e.begin; at < e.end; at += 8) {
      int64_t value;
      std::memcpy(&value, bytes.data() + at, 8);
      values.push_back(static_cast<int32_t>(value));
    }
    return values;
  };
  Golden golden;
  for (const SafetensorsEntry& e : *entries) {
    if (e.name == "ids") golden.ids = integers(e);
    if (e.name == "greedy") golden.greedy = integers(e);
    if (e.name == "logits") {
      golden.vocab = static_cast<int>(e.shape.back());
      golden.logits.resize((e.end - e.begin) / 4);
      std::memcpy(golden.logits.data(), bytes.data() + e.begin, e.end - e.begin);
    }
    if (e.name.starts_with("router.") && e.dtype == "I64") {
      const size_t layer = e.name.find("layers.") + 7;
      golden.routed[std::stoi(e.name.substr(layer))] = integers(e);
    }
  }
  golden.greedy.erase(golden.greedy.begin(),
                      golden.greedy.begin() + static_cast<int64_t>(golden.ids.size()));
  return golden;
}

}  // namespace ballast::test
