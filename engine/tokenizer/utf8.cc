#include "engine/tokenizer/utf8.h"

#include <simdjson.h>

namespace ballast {
namespace {

// Printable Latin-1 characters stand for themselves; the other bytes, in order, for U+0100 and on.
bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

std::array<std::string, 256> MakeByteAlphabet() {
  std::array<std::string, 256> alphabet;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    AppendUtf8(StandsForItself(byte) ? static_cast<char32_t>(byte) : next++, &alphabet[byte]);
  }
  return alphabet;
}

constexpr int kAlphabetEnd = 0x100 + 68;  // 68 bytes do not stand for themselves

std::array<int16_t, kAlphabetEnd> MakeBytesOfAlphabet() {
  std::array<int16_t, kAlphabetEnd> bytes;
  bytes.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    bytes[StandsForItself(byte) ? byte : next++] = static_cast<int16_t>(byte);
  }
  return bytes;
}

}  // namespace

char32_t Utf8At(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  switch (Utf8Length(text[at])) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
             (byte(3) & 0x3F);
  }
}

size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

void AppendUtf8(char32_t character, std::string* out) {
  const auto put = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (character < 0x80) {
    put(character);
  } else if (character < 0x800) {
    put(0xC0 | character >> 6);
    put(0x80 | (character & 0x3F));
  } else if (character < 0x10000) {
    put(0xE0 | character >> 12);
    put(0x80 | (character >> 6 & 0x3F));
    put(0x80 | (character & 0x3F));
  } else {
    put(0xF0 | character >> 18);
    put(0x80 | (character >> 12 & 0x3F));
    put(0x80 | (character >> 6 & 0x3F));
    put(0x80 | (character & 0x3F));
  }
}

bool IsUtf8(std::string_view text) { return simdjson::validate_utf8(text); }

std::string ReplaceAll(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  out.reserve(text.size());
  size_t done = 0;
  for (size_t at; (at = text.find(pattern, done)) != text.npos;) {
    out.append(text, done, at - done);
    out += content;
    done = at + pattern.size();
  }
  out.append(text, done);
  return out;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

const std::array<std::string, 256>& ByteAlphabet() {
  static const std::array<std::string, 256> alphabet = MakeByteAlphabet();
  return alphabet;
}

int ByteOfAlphabet(char32_t character) {
  static const std::array<int16_t, kAlphabetEnd> bytes = MakeBytesOfAlphabet();
  return character < kAlphabetEnd ? bytes[character] : -1;
}

bool FromByteAlphabet(std::string_view token, std::string* bytes) {
  bytes->clear();
  for (size_t at = 0; at < token.size(); at += Utf8Length(token[at])) {
    const int byte = ByteOfAlphabet(Utf8At(token, at));
    if (byte < 0) return false;
    bytes->push_back(static_cast<char>(byte));
  }
  return true;
}

std::string ToByteAlphabet(std::string_view text) {
  const std::array<std::string, 256>& alphabet = ByteAlphabet();
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  for (char byte : text) out += alphabet[static_cast<unsigned char>(byte)];
  return out;
}

// Table 3-7 of the Unicode standard: the second byte's range depends on the first.
Utf8Check CheckUtf8Character(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  if (bytes.empty()) return Utf8Check::kIncomplete;
  const unsigned char lead = byte(0);
  if (lead < 0x80) return bytes.size() == 1 ? Utf8Check::kWhole : Utf8Check::kInvalid;
  if (lead < 0xC2 || lead > 0xF4) return Utf8Check::kInvalid;
  for (size_t i = 1; i < bytes.size(); ++i) {
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    if (byte(i) < low || byte(i) > high) return Utf8Check::kInvalid;
  }
  const size_t need = Utf8Length(bytes[0]);
  if (bytes.size() > need) return Utf8Check::kInvalid;
  return bytes.size() == need ? Utf8Check::kWhole : Utf8Check::kIncomplete;
}

void Utf8Repair::Push(std::string_view bytes, std::string* out) {
  for (char byte : bytes) {
    pending_.push_back(byte);
    Utf8Check check = CheckUtf8Character(pending_);
    if (check == Utf8Check::kInvalid && pending_.size() > 1) {
      // What stood before is one maximal part; this byte may begin a character.
      *out += kReplacementCharacter;
      pending_.assign(1, byte);
      check = CheckUtf8Character(pending_);
    }
    if (check == Utf8Check::kIncomplete) continue;
    *out += check == Utf8Check::kWhole ? std::string_view(pending_) : kReplacementCharacter;
    pending_.clear();
  }
}

void Utf8Repair::Finish(std::string* out) {
  if (!pending_.empty()) *out += kReplacementCharacter;
  pending_.clear();
}

}  // namespace ballast
