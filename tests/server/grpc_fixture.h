// A server on a free port of this machine, a FakeEngine behind it and a client before it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "ballast/v1/text_generation.grpc.pb.h"
#include "server/grpc_server.h"
#include "tests/server/error_details.h"
#include "tests/server/fake_engine.h"

namespace ballast {

inline std::unique_ptr<Tokenizer> MiniTokenizer() {
  auto tokenizer = Tokenizer::Load(BALLAST_SOURCE_DIR "/models/ballast-mini");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

class GrpcTest : public testing::Test {
 protected:
  void Serve(std::unique_ptr<FakeEngine> engine, GrpcOptions options = {}) {
    Listen(std::move(options));
    engine_ = std::move(engine);
    server_->SetEngine(engine_.get());
  }

  void Listen(GrpcOptions options = {}) {
    options.address = "127.0.0.1:0";
    options.version = "1.2.3";
    GrpcEvents events;
    events.on_rejected = [this](std::string_view reason) {
      const std::lock_guard lock(mutex_);
      rejected_.emplace_back(reason);
    };
    events.on_seed_drawn = [this](std::string_view, uint64_t seed) {
      const std::lock_guard lock(mutex_);
      seeds_.push_back(seed);
    };
    auto server = GrpcServer::Start(options, std::move(events));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    Connect({});
  }

  void Connect(grpc::ChannelArguments arguments) {
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         arguments);
    stub_ = v1::TextGeneration::NewStub(channel_);
  }

  void TearDown() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::milliseconds(0));
    engine_.reset();
    server_.reset();
  }

  static v1::GenerateRequest Ids(std::vector<uint32_t> ids, const std::string& request_id = "") {
    v1::GenerateRequest request;
    request.set_request_id(request_id);
    request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
    return request;
  }

  grpc::Status Generate(const v1::GenerateRequest& request, v1::GenerateResponse* response) {
    grpc::ClientContext context;
    return stub_->Generate(&context, request, response);
  }
  grpc::Status Generate(const v1::GenerateRequest& request) {
    v1::GenerateResponse response;
    return Generate(request, &response);
  }

  std::vector<std::string> rejected() {
    const std::lock_guard lock(mutex_);
    return rejected_;
  }
  std::vector<uint64_t> seeds() {
    const std::lock_guard lock(mutex_);
    return seeds_;
  }

  std::unique_ptr<FakeEngine> engine_;
  std::unique_ptr<GrpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::TextGeneration::Stub> stub_;

 private:
  std::mutex mutex_;
  std::vector<std::string> rejected_;
  std::vector<uint64_t> seeds_;
};

}  // namespace ballast
