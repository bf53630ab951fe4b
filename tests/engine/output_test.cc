#include "engine/output.h"

#include "gtest/gtest.h"

namespace ballast {
namespace {

constexpr int32_t kEos[] = {1};

std::unique_ptr<Tokenizer> MiniTokenizer() {
  auto tokenizer = Tokenizer::Load(std::string(BALLAST_SOURCE_DIR) + "/models/ballast-mini");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::shared_ptr<Sequence> MakeSequence(const Tokenizer& tokenizer, StoppingParams stopping) {
  Request request;
  request.prompt = *tokenizer.Encode("In the", true);
  request.stopping = std::move(stopping);
  auto sequence = std::make_shared<Sequence>();
  sequence->tokens = request.prompt;
  sequence->prompt_tokens = static_cast<int32_t>(request.prompt.size());
  sequence->request = std::make_shared<const Request>(std::move(request));
  return sequence;
}

// Feeds `text` (and then `last`, when >= 0) until the output ends; returns all deltas joined.
OutputDelta Feed(const Tokenizer& tokenizer, Output& output, std::string_view text,
                 int32_t last = -1, int32_t max_context = 1000) {
  std::vector<int32_t> tokens = *tokenizer.Encode(text, false);
  if (last >= 0) tokens.push_back(last);
  OutputDelta all;
  for (const int32_t token : tokens) {
    OutputDelta delta = output.Append({token, std::nullopt}, {max_context, kEos});
    all.text += delta.text;
    all.token_ids.insert(all.token_ids.end(), delta.token_ids.begin(), delta.token_ids.end());
    all.finish_reason = delta.finish_reason;
    all.stop_match = delta.stop_match;
    if (output.finished()) break;
  }
  return all;
}

TEST(Output, TextIsWhatThePromptDoesNotHave) {
  const auto tokenizer = MiniTokenizer();
  Output output(MakeSequence(*tokenizer, {}), tokenizer.get());
  EXPECT_EQ(Feed(*tokenizer, output, " beginning, God").text, " beginning, God");
  EXPECT_FALSE(output.finished());
}

TEST(Output, EosEndsItAndIsNotInTheText) {
  const auto tokenizer = MiniTokenizer();
  Output output(MakeSequence(*tokenizer, {}), tokenizer.get());
  const OutputDelta all = Feed(*tokenizer, output, " end", 1);
  EXPECT_EQ(all.text, " end");
  EXPECT_EQ(all.token_ids.back(), 1);
  EXPECT_EQ(all.finish_reason, FinishReason::kStop);
}

TEST(Output, EosIsATokenLikeOthersWhenIgnored) {
  const auto tokenizer = MiniTokenizer();
  StoppingParams stopping;
  stopping.ignore_eos = true;
  Output output(MakeSequence(*tokenizer, stopping), tokenizer.get());
  EXPECT_EQ(Feed(*tokenizer, output, " end", 1).finish_reason, FinishReason::kNone);
}

TEST(Output, AStopTokenIsInTheTextOnlyWithIncludeStop) {
  const auto tokenizer = MiniTokenizer();
  const int32_t comma = tokenizer->Encode(",", false)->at(0);
  for (const bool include : {false, true}) {
    StoppingParams stopping;
    stopping.stop_token_ids = {comma};
    stopping.include_stop = include;
    Output output(MakeSequence(*tokenizer, stopping), tokenizer.get());
    const OutputDelta all = Feed(*tokenizer, output, " beginning, God");
    EXPECT_EQ(all.text, include ? " beginning," : " beginning");
    EXPECT_EQ(all.finish_reason, FinishReason::kStop);
    EXPECT_EQ(all.stop_match, "");
  }
}

TEST(Output, AStopStringAcrossTokensCutsTheTextButNotTheIds) {
  const auto tokenizer = MiniTokenizer();
  StoppingParams stopping;
  stopping.stop = {"nning, G"};
  Output output(MakeSequence(*tokenizer, stopping), tokenizer.get());
  const OutputDelta all = Feed(*tokenizer, output, " beginning, God created");
  EXPECT_EQ(all.text, " begi");
  EXPECT_EQ(all.finish_reason, FinishReason::kStop);
  EXPECT_EQ(all.stop_match, "nning, G");
  EXPECT_EQ(static_cast<int>(all.token_ids.size()), output.sequence().output_tokens());
}

TEST(Output, StopStringsBeforeMinTokensDoNotCount) {
  const auto tokenizer = MiniTokenizer();
  StoppingParams stopping;
  stopping.stop = {","};
  stopping.min_tokens = 100;
  Output output(MakeSequence(*tokenizer, stopping), tokenizer.get());
  EXPECT_EQ(Feed(*tokenizer, output, " beginning, God").text, " beginning, God");
}

TEST(Output, HeldBackTextComesOutAtTheEnd) {
  const auto tokenizer = MiniTokenizer();
  StoppingParams stopping;
  stopping.stop = {" God created the heaven"};
  Output output(MakeSequence(*tokenizer, stopping), tokenizer.get());
  std::string text = Feed(*tokenizer, output, " beginning, God created").text;
  EXPECT_EQ(text, " beginning,");
  const OutputDelta last = output.Finish(FinishReason::kAborted);
  EXPECT_EQ(last.text, " God created");
  EXPECT_EQ(last.finish_reason, FinishReason::kAborted);
}

TEST(Output, EndsWithLengthAtMaxTokensAndAtTheContext) {
  const auto tokenizer = MiniTokenizer();
  StoppingParams stopping;
  stopping.max_tokens = 2;
  Output bounded(MakeSequence(*tokenizer, stopping), tokenizer.get());
  OutputDelta all = Feed(*tokenizer, bounded, " one two three four");
  EXPECT_EQ(all.token_ids.size(), 2u);
  EXPECT_EQ(all.finish_reason, FinishReason::kLength);
  Output unbounded(MakeSequence(*tokenizer, {}), tokenizer.get());
  const int32_t context = unbounded.sequence().prompt_tokens + 3;
  all = Feed(*tokenizer, unbounded, " one two three four five", -1, context);
  EXPECT_EQ(all.token_ids.size(), 3u);
  EXPECT_EQ(all.finish_reason, FinishReason::kLength);
}

TEST(Output, WithoutATokenizerThereAreIdsAlone) {
  const auto tokenizer = MiniTokenizer();
  Output output(MakeSequence(*tokenizer, {}), nullptr);
  const OutputDelta all = Feed(*tokenizer, output, " one two");
  EXPECT_EQ(all.text, "");
  EXPECT_FALSE(all.token_ids.empty());
}

}  // namespace
}  // namespace ballast
