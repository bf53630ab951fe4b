// Tokenize, Detokenize and GetModelInfo.
#include <string>
#include <vector>

#include "server/grpc_service.h"
#include "tests/server/grpc_fixture.h"

namespace ballast {
namespace {

using Code = grpc::StatusCode;

class GrpcText : public GrpcTest {
 protected:
  grpc::Status Tokenize(const v1::TokenizeRequest& request, std::vector<int32_t>* ids) {
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    grpc::Status status = stub_->Tokenize(&context, request, &response);
    ids->assign(response.token_ids().begin(), response.token_ids().end());
    return status;
  }
  grpc::Status Detokenize(const v1::DetokenizeRequest& request, std::string* text) {
    grpc::ClientContext context;
    v1::DetokenizeResponse response;
    grpc::Status status = stub_->Detokenize(&context, request, &response);
    *text = response.text();
    return status;
  }
};

TEST_F(GrpcText, TokenizeIsTheTokenizersEncode) {
  Serve(std::make_unique<FakeEngine>(MiniTokenizer()));
  v1::TokenizeRequest request;
  request.set_text("The experts, naïve and otherwise.");
  std::vector<int32_t> ids;
  ASSERT_TRUE(Tokenize(request, &ids).ok());
  EXPECT_EQ(ids, *engine_->tokenizer()->Encode(request.text(), true));
  request.set_add_special_tokens(false);
  ASSERT_TRUE(Tokenize(request, &ids).ok());
  EXPECT_EQ(ids, *engine_->tokenizer()->Encode(request.text(), false));
}

TEST_F(GrpcText, LongTextTakesTheSameWay) {
  Serve(std::make_unique<FakeEngine>(MiniTokenizer()));
  v1::TokenizeRequest request;
  while (request.text().size() < (5 << 20)) request.mutable_text()->append("the next word is ");
  std::vector<int32_t> ids;
  ASSERT_TRUE(Tokenize(request, &ids).ok());
  EXPECT_EQ(ids, *engine_->tokenizer()->Encode(request.text(), true));
  v1::DetokenizeRequest back;
  back.mutable_token_ids()->Add(ids.begin(), ids.begin() + 100'000);
  std::string text;
  ASSERT_TRUE(Detokenize(back, &text).ok());
  EXPECT_EQ(text, request.text().substr(0, text.size()));
  EXPECT_GT(text.size(), 100'000u);
}

TEST_F(GrpcText, DetokenizeSkipsSpecialTokensUnlessTold) {
  Serve(std::make_unique<FakeEngine>(MiniTokenizer()));
  v1::DetokenizeRequest request;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < 10; ++id) ids.push_back(id);
  request.mutable_token_ids()->Add(ids.begin(), ids.end());
  std::string text;
  ASSERT_TRUE(Detokenize(request, &text).ok());
  EXPECT_EQ(text, engine_->tokenizer()->Decode(ids, true));
  request.set_skip_special_tokens(false);
  ASSERT_TRUE(Detokenize(request, &text).ok());
  EXPECT_EQ(text, engine_->tokenizer()->Decode(ids, false));
  EXPECT_NE(text, engine_->tokenizer()->Decode(ids, true));
}

TEST_F(GrpcText, IdsOutsideTheVocabularyAndTooManyAreRefusedByName) {
  Serve(std::make_unique<FakeEngine>(MiniTokenizer()));
  v1::DetokenizeRequest request;
  request.add_token_ids(1'000'000);
  std::string text;
  EXPECT_EQ(FieldOf(Detokenize(request, &text)), "token_ids");
  request.mutable_token_ids()->Resize(TextGenerationService::kMaxDetokenizedIds + 1, 1);
  request.set_token_ids(0, 1);
  EXPECT_EQ(FieldOf(Detokenize(request, &text)), "token_ids");
}

TEST_F(GrpcText, WithoutTokenizerThePreconditionFails) {
  Serve(std::make_unique<FakeEngine>());
  v1::TokenizeRequest tokenize;
  std::vector<int32_t> ids;
  grpc::Status status = Tokenize(tokenize, &ids);
  EXPECT_EQ(status.error_code(), Code::FAILED_PRECONDITION);
  EXPECT_EQ(ReasonOf(status), "NO_TOKENIZER");
  v1::DetokenizeRequest detokenize;
  std::string text;
  status = Detokenize(detokenize, &text);
  EXPECT_EQ(status.error_code(), Code::FAILED_PRECONDITION);
}

TEST_F(GrpcText, InvalidUtf8NeverReachesUs) {
  Serve(std::make_unique<FakeEngine>(MiniTokenizer()));
  // The generated client refuses or warns; the server's parser refuses.
  v1::TokenizeRequest request;
  request.set_text("\xff\xfe");
  std::vector<int32_t> ids;
  EXPECT_FALSE(Tokenize(request, &ids).ok());
}

TEST_F(GrpcText, GetModelInfoDescribesTheServedModel) {
  Serve(std::make_unique<FakeEngine>());
  grpc::ClientContext context;
  v1::GetModelInfoResponse info;
  ASSERT_TRUE(stub_->GetModelInfo(&context, v1::GetModelInfoRequest(), &info).ok());
  EXPECT_EQ(info.name(), "tiny");
  EXPECT_EQ(info.version(), "1.2.3");
  EXPECT_EQ(info.moe_layers_size(), 2);
  EXPECT_FALSE(info.has_tokenizer());
}

}  // namespace
}  // namespace ballast
