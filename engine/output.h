// One output of a request while it grows: from drawn tokens to text, stops and news for the client.
// No clock, no lock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "engine/engine.h"
#include "engine/sequence.h"
#include "engine/stop_strings.h"
#include "engine/tokenizer/tokenizer.h"

namespace ballast {

// What ends an output besides its request.
struct OutputLimits {
  int32_t max_context = 0;
  std::span<const int32_t> eos_token_ids;
};

class Output {
 public:
  // `tokenizer` may be null: then there is no text. It and `limits` outlive the output.
  Output(std::shared_ptr<Sequence> sequence, const Tokenizer* tokenizer);

  Sequence& sequence() { return *sequence_; }
  const std::shared_ptr<Sequence>& shared_sequence() const { return sequence_; }
  bool finished() const { return finished_; }

  // Appends a drawn token to the sequence and says what there is to tell. finish_reason is set when
  // the token ends the output.
  OutputDelta Append(Sampled sampled, const OutputLimits& limits);
  // Ends the output where it stands: text held back comes out.
  OutputDelta Finish(FinishReason reason);

 private:
  std::string Detokenize(int32_t token, int32_t& stop_match);
  std::string FlushText();

  std::shared_ptr<Sequence> sequence_;
  std::optional<Detokenizer> detokenizer_;
  StopStrings stops_;
  bool finished_ = false;
};

}  // namespace ballast
