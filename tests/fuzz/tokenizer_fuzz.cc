// A stranger's tokenizer.json, and texts and ids against it. The input is the file; what follows
// its first byte 0x01, if there is one, is text (raw) and ids (two bytes each).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

// What must hold of any tokenizer and any ids: whole UTF-8, and pieces that join to the whole.
void Decode(const ballast::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  ballast::Detokenizer detokenizer(tokenizer, {});
  std::string pieces;
  for (int32_t id : ids) {
    const std::string piece = detokenizer.Append(id);
    Require(ballast::IsUtf8(piece));
    pieces += piece;
  }
  pieces += detokenizer.Flush();
  Require(pieces == tokenizer.Decode(ids, true));
  Require(ballast::IsUtf8(tokenizer.Decode(ids, false)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\x01');
  const std::string_view json = input.substr(0, end);
  const std::string_view rest = end == input.npos ? "a b \xC3\xA9" : input.substr(end + 1);
  const auto tokenizer = ballast::Tokenizer::Parse(json, "");
  if (!tokenizer.ok()) return 0;
  const auto encoded = (*tokenizer)->Encode(rest, true);
  if (encoded.ok()) Decode(**tokenizer, *encoded);
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < rest.size(); i += 2) {
    ids.push_back(static_cast<uint8_t>(rest[i]) | static_cast<uint8_t>(rest[i + 1]) << 8);
  }
  Decode(**tokenizer, ids);
  return 0;
}
