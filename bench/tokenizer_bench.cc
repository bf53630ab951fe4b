// Encoding and decoding speed of tokenizers, on one core, against the goal of 5 MB/s.
//
//   tokenizer_bench [--text FILE] FOLDER...
//
// FILE is plain text or JSON lines with a "text" field; FOLDERs hold a tokenizer.json. Without
// arguments: the bundled model's tokenizer on its own sample text.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace ballast {
namespace {

constexpr double kGoalMbPerS = 5;
constexpr double kSecondsPerRow = 0.5;

// Processor time, so that other programs on the machine do not count.
double Now() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// One text for each line of JSON, or the file as one text.
std::vector<std::string> ReadTexts(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::string> texts;
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("text")) return {all};
    texts.push_back(entry["text"].get<std::string>());
  }
  return texts;
}

// Runs `round` again and again; the best rate of `bytes` a round, in MB/s.
template <typename Round>
double BestRate(size_t bytes, Round round) {
  double best = 0;
  for (const double end = Now() + kSecondsPerRow; Now() < end;) {
    const double start = Now();
    round();
    best = std::max(best, static_cast<double>(bytes) / 1e6 / (Now() - start));
  }
  return best;
}

int Measure(const std::string& folder, const std::vector<std::string>& texts) {
  const double start = Now();
  const auto tokenizer = Tokenizer::Load(folder);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(tokenizer.status().message()).c_str());
    return 1;
  }
  const double load_s = Now() - start;
  std::string joined;
  for (const std::string& text : texts) joined += text + "\n";
  std::vector<std::vector<int32_t>> encoded;
  size_t tokens = 0;
  for (const std::string& text : texts) {
    auto ids = (*tokenizer)->Encode(text, false);
    if (!ids.ok()) {
      std::fprintf(stderr, "%s\n", std::string(ids.status().message()).c_str());
      return 1;
    }
    tokens += ids->size();
    encoded.push_back(*std::move(ids));
  }
  const double by_text = BestRate(joined.size(), [&] {
    for (const std::string& text : texts) (void)(*tokenizer)->Encode(text, true);
  });
  const double whole = BestRate(joined.size(), [&] { (void)(*tokenizer)->Encode(joined, true); });
  const double decode = BestRate(joined.size(), [&] {
    for (const auto& ids : encoded) (void)(*tokenizer)->Decode(ids, true);
  });
  const double append = BestRate(joined.size(), [&] {
    for (const auto& ids : encoded) {
      Detokenizer detokenizer(**tokenizer, {});
      for (int32_t id : ids) (void)detokenizer.Append(id);
    }
  });
  std::printf("%-28s %7.0f %9.2f %10.1f %8.1f %9.1fx %10.1f %10.1f\n",
              folder.substr(folder.size() > 28 ? folder.size() - 28 : 0).c_str(), load_s * 1e3,
              static_cast<double>(joined.size()) / static_cast<double>(tokens), by_text, whole,
              std::min(by_text, whole) / kGoalMbPerS, decode, append);
  return 0;
}

int Main(int argc, char** argv) {
  std::string text = BALLAST_SOURCE_DIR "/models/ballast-mini/samples.txt";
  std::vector<std::string> folders;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--text" && i + 1 < argc) {
      text = argv[++i];
    } else {
      folders.push_back(argument);
    }
  }
  if (folders.empty()) folders.push_back(BALLAST_SOURCE_DIR "/models/ballast-mini");
  const std::vector<std::string> texts = ReadTexts(text);
  size_t bytes = 0;
  for (const std::string& one : texts) bytes += one.size();
  std::printf("%zu texts, %zu bytes; one core; goal: encode at %.0f MB/s\n", texts.size(), bytes,
              kGoalMbPerS);
  std::printf("%-28s %7s %9s %10s %8s %10s %10s %10s\n", "tokenizer", "load ms", "B/token",
              "encode", "joined", "to goal", "decode", "streamed");
  int failed = bytes == 0;
  for (const std::string& folder : folders) failed |= Measure(folder, texts);
  return failed;
}

}  // namespace
}  // namespace ballast

int main(int argc, char** argv) { return ballast::Main(argc, argv); }
