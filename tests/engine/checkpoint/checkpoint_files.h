// Checkpoints made up, or golden ones rewritten, for tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "nlohmann/json.hpp"

namespace ballast {

// A folder that goes away with it.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  const std::string& path() const { return path_; }
  void Write(const std::string& name, std::string_view bytes) const;

 private:
  std::string path_;
};

struct FileTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using FileTensors = std::map<std::string, FileTensor>;

std::string ReadAll(const std::string& path);
std::string GoldenPath(std::string_view name);
nlohmann::json GoldenConfig(std::string_view name);
// All tensors of a golden checkpoint in one file, read without the code under test.
FileTensors GoldenTensors(std::string_view name);

// A safetensors file of a header as given and its data.
std::string FileOf(std::string_view header, std::string_view data);
// A well-formed file.
std::string FileOf(const FileTensors& tensors);

FileTensor Bf16Tensor(std::vector<int64_t> shape, const std::vector<float>& values);
// The same values (exactly) as F32.
FileTensor AsF32(const FileTensor& tensor);
// Elements of a BF16 or F32 tensor.
std::vector<float> Values(const FileTensor& tensor);

}  // namespace ballast
