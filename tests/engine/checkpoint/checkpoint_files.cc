#include "tests/engine/checkpoint/checkpoint_files.h"

#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/status.h"

namespace ballast {

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "ballast-XXXXXX").string();
  CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempFolder::~TempFolder() { std::filesystem::remove_all(path_); }

void TempFolder::Write(const std::string& name, std::string_view bytes) const {
  std::ofstream file(path_ + "/" + name, std::ios::binary);
  file << bytes;
  CHECK(file.good());
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good());
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string GoldenPath(std::string_view name) {
  return std::string(BALLAST_SOURCE_DIR "/tests/data/goldens/") + std::string(name);
}

nlohmann::json GoldenConfig(std::string_view name) {
  return nlohmann::json::parse(ReadAll(GoldenPath(name) + "/config.json"));
}

FileTensors GoldenTensors(std::string_view name) {
  const std::string file = ReadAll(GoldenPath(name) + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  FileTensors tensors;
  const nlohmann::json header = nlohmann::json::parse(file.substr(8, length));
  for (const auto& [key, entry] : header.items()) {
    if (key == "__metadata__") continue;
    const size_t begin = entry["data_offsets"][0];
    const size_t end = entry["data_offsets"][1];
    tensors[key] = {entry["dtype"], entry["shape"], file.substr(8 + length + begin, end - begin)};
  }
  return tensors;
}

std::string FileOf(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), 8);
  file += header;
  file += data;
  return file;
}

std::string FileOf(const FileTensors& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return FileOf(header.dump(), data);
}

FileTensor Bf16Tensor(std::vector<int64_t> shape, const std::vector<float>& values) {
  FileTensor tensor{"BF16", std::move(shape), ""};
  for (float value : values) {
    const uint16_t bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
    tensor.bytes.append(reinterpret_cast<const char*>(&bits), 2);
  }
  return tensor;
}

std::vector<float> Values(const FileTensor& tensor) {
  std::vector<float> values;
  const size_t size = tensor.dtype == "BF16" ? 2 : 4;
  for (size_t at = 0; at < tensor.bytes.size(); at += size) {
    uint32_t bits = 0;
    std::memcpy(&bits, tensor.bytes.data() + at, size);
    values.push_back(std::bit_cast<float>(size == 2 ? bits << 16 : bits));
  }
  return values;
}

FileTensor AsF32(const FileTensor& tensor) {
  const std::vector<float> values = Values(tensor);
  return {"F32", tensor.shape,
          std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4)};
}

}  // namespace ballast
