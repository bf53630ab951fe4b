// Characters of UTF-8 text, and the byte alphabet of byte-level BPE.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace ballast {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the character that starts with `lead`. For valid UTF-8 only.
inline size_t Utf8Length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The character at `text[at]`. For valid UTF-8 only.
char32_t Utf8At(std::string_view text, size_t at);

// Where the last character of `text`, which is not empty, begins. For valid UTF-8 only.
size_t LastCharacter(std::string_view text);

void AppendUtf8(char32_t character, std::string* out);

// Whether `text` is UTF-8: no surrogates, no overlong forms.
bool IsUtf8(std::string_view text);

// What a few bytes are: one whole character, a beginning of one, or neither.
enum class Utf8Check { kWhole, kIncomplete, kInvalid };
Utf8Check CheckUtf8Character(std::string_view bytes);

// `text` with every `pattern`, which is not empty, replaced, the leftmost first.
std::string ReplaceAll(std::string_view text, std::string_view pattern, std::string_view content);

// Unicode's White_Space property.
bool IsWhiteSpace(char32_t character);

// GPT-2's reversible map of bytes to printable characters: byte 0x20 becomes U+0120, and so on.
// https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode.
const std::array<std::string, 256>& ByteAlphabet();

// The byte that `character` stands for in that map, or -1.
int ByteOfAlphabet(char32_t character);

// `token` with every character of the byte alphabet turned back into its byte. False, and `bytes`
// unspecified, when some character is outside the alphabet.
bool FromByteAlphabet(std::string_view token, std::string* bytes);

// `text` with every byte turned into its character of the byte alphabet.
std::string ToByteAlphabet(std::string_view text);

// Repairs a stream of bytes into UTF-8, one U+FFFD for each maximal invalid part, as Rust's
// String::from_utf8_lossy and the WHATWG decoder do.
class Utf8Repair {
 public:
  // Appends what became certain.
  void Push(std::string_view bytes, std::string* out);
  // The end of the stream: an incomplete character becomes U+FFFD.
  void Finish(std::string* out);

 private:
  std::string pending_;  // the valid beginning of a character
};

}  // namespace ballast
