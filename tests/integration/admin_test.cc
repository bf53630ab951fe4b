// ExpertAdmin of the real server: placements change under load and no token does, counts add up,
// and a drain ends what it should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <set>
#include <thread>

#include "ballast/v1/expert_admin.grpc.pb.h"
#include "tests/integration/served_model.h"
#include "tests/server/error_details.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using Code = grpc::StatusCode;

constexpr int kPrompts = 8;

std::unique_ptr<v1::ExpertAdmin::Stub> Admin(const ServedModel& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::ExpertAdmin::NewStub(
      grpc::CreateCustomChannel(server.grpc(), grpc::InsecureChannelCredentials(), arguments));
}

v1::Placement GetPlacement(v1::ExpertAdmin::Stub& admin) {
  v1::Placement placement;
  const grpc::Status status =
      admin.GetPlacement(Context().get(), v1::GetPlacementRequest(), &placement);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return placement;
}

v1::ExpertLoad GetLoad(v1::ExpertAdmin::Stub& admin) {
  v1::ExpertLoad load;
  const grpc::Status status =
      admin.GetExpertLoad(Context().get(), v1::GetExpertLoadRequest(), &load);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return load;
}

// Every layer with its experts in turn, from another one on.
v1::Placement Rotated(v1::Placement placement, int experts, int by) {
  for (v1::LayerPlacement& layer : *placement.mutable_layers()) {
    for (int slot = 0; slot < layer.slot_expert_size(); ++slot) {
      layer.set_slot_expert(slot, (slot + by * static_cast<int>(layer.layer())) % experts);
    }
  }
  return placement;
}

grpc::Status Apply(v1::ExpertAdmin::Stub& admin, const v1::Placement& placement,
                   uint64_t expected_version = 0, v1::ApplyPlacementResponse* response = nullptr) {
  v1::ApplyPlacementResponse unread;
  v1::ApplyPlacementRequest request;
  *request.mutable_placement() = placement;
  request.set_expected_version(expected_version);
  return admin.ApplyPlacement(Context().get(), request, response == nullptr ? &unread : response);
}

// Tokens and log-probabilities of one prompt.
std::string Answer(v1::TextGeneration::Stub& stub, int prompt) {
  v1::GenerateRequest request = Ask("The experts of number " + std::to_string(prompt), 24);
  request.mutable_sampling()->set_temperature(0.9f);
  request.mutable_sampling()->set_seed(static_cast<uint64_t>(prompt));
  request.mutable_response()->set_logprobs(0);
  v1::GenerateResponse response;
  const grpc::Status status = stub.Generate(Context().get(), request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::string bytes;
  for (const v1::TokenLogprobs& token : response.outputs(0).logprobs()) {
    bytes += token.SerializeAsString();
  }
  return bytes;
}

// Both counts of every layer are tokens * experts per token.
void ExpectAddsUp(const v1::ExpertLoad& load, uint64_t per_token) {
  EXPECT_GT(load.tokens(), 0u);
  for (const v1::LayerLoad& layer : load.layers()) {
    uint64_t routed = 0;
    for (const uint64_t rows : layer.expert_rows()) routed += rows;
    uint64_t ran = 0;
    for (const uint64_t rows : layer.rank_rows()) ran += rows;
    EXPECT_EQ(routed, load.tokens() * per_token) << "layer " << layer.layer();
    EXPECT_EQ(ran, load.tokens() * per_token) << "layer " << layer.layer();
  }
}

TEST(ExpertAdmin, PlacementsSwapUnderLoadAndNoTokenChanges) {
  std::vector<std::string> want;
  v1::GetModelInfoResponse info;
  {
    ServedModel one;
    for (int prompt = 0; prompt < kPrompts; ++prompt) want.push_back(Answer(one.stub(), prompt));
    ASSERT_TRUE(one.stub().GetModelInfo(Context().get(), {}, &info).ok());
    one.Stop();
  }
  const int experts = static_cast<int>(info.experts());
  ServedModel server({"--ranks", "4", "--slots-per-rank", "10"});
  server.stub();
  auto admin = Admin(server);
  std::atomic<bool> stop = false;
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      for (int prompt = client; !stop; prompt = (prompt + 3) % kPrompts) {
        EXPECT_EQ(Answer(server.stub(), prompt), want[static_cast<size_t>(prompt)]) << prompt;
      }
    });
  }
  const v1::Placement base = GetPlacement(*admin);
  EXPECT_EQ(base.ranks(), 4u);
  EXPECT_EQ(base.layers_size(), info.moe_layers_size());
  for (int swap = 1; swap <= 25; ++swap) {
    const grpc::Status status = Apply(*admin, Rotated(base, experts, swap));
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_GE(GetPlacement(*admin).version(), 26u);
  const v1::ExpertLoad load = GetLoad(*admin);
  ExpectAddsUp(load, info.experts_per_token());
  EXPECT_EQ(load.placement_version(), GetPlacement(*admin).version());
  EXPECT_GT(load.slot_moves(), 0u);
  admin.reset();
  server.Stop();
}

TEST(ExpertAdmin, WhatApplyDoesIsWhatValidateSaidAndMetricsCount) {
  ServedModel server({"--ranks", "4", "--slots-per-rank", "10", "--balance", "assign"});
  auto admin = Admin(server);
  const v1::Placement before = GetPlacement(*admin);
  v1::Placement wanted = Rotated(before, 32, 5);
  wanted.mutable_layers()->DeleteSubrange(1, wanted.layers_size() - 1);
  v1::ValidatePlacementRequest request;
  *request.mutable_placement() = wanted;
  v1::ValidatePlacementResponse said;
  ASSERT_TRUE(admin->ValidatePlacement(Context().get(), request, &said).ok());
  EXPECT_GT(said.slot_moves(), 0u);
  EXPECT_GT(said.bytes(), said.slot_moves());
  EXPECT_EQ(said.version(), before.version());
  EXPECT_EQ(GetPlacement(*admin).SerializeAsString(), before.SerializeAsString());

  v1::ApplyPlacementResponse done;
  const grpc::Status status = Apply(*admin, wanted, before.version(), &done);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(done.version(), before.version() + 1);
  EXPECT_EQ(done.slot_moves(), said.slot_moves());
  EXPECT_EQ(done.bytes(), said.bytes());
  const v1::Placement after = GetPlacement(*admin);
  EXPECT_EQ(after.version(), done.version());
  EXPECT_EQ(after.layers(0).SerializeAsString(), wanted.layers(0).SerializeAsString());
  for (int l = 1; l < after.layers_size(); ++l) {
    EXPECT_EQ(after.layers(l).SerializeAsString(), before.layers(l).SerializeAsString());
  }
  EXPECT_TRUE(server.AwaitMetric("ballast_placement_version", static_cast<double>(done.version())));
  EXPECT_EQ(server.Metric("ballast_slot_moves_total"), static_cast<double>(done.slot_moves()));
  EXPECT_EQ(server.Metric(R"(ballast_moved_bytes_total{cause="apply"})"),
            static_cast<double>(done.bytes()));

  // By now stale.
  const grpc::Status stale = Apply(*admin, wanted, before.version());
  EXPECT_EQ(stale.error_code(), Code::ABORTED);
  EXPECT_THAT(stale.error_message(), HasSubstr(std::to_string(before.version())));
  EXPECT_THAT(stale.error_message(), HasSubstr(std::to_string(done.version())));
  wanted.mutable_layers(0)->set_slot_expert(0, wanted.layers(0).slot_expert(1));
  EXPECT_EQ(FieldOf(Apply(*admin, wanted)), "placement.layers[0].slot_expert");
  admin.reset();
  server.Stop();
}

TEST(ExpertAdmin, WatchedIntervalsAddUpToAllThereWas) {
  ServedModel server({"--ranks", "2"});
  auto admin = Admin(server);
  v1::WatchExpertLoadRequest request;
  request.set_interval_ms(20);
  auto context = Context();
  auto reader = admin->WatchExpertLoad(context.get(), request);
  v1::ExpertLoad interval;
  ASSERT_TRUE(reader->Read(&interval));
  const uint64_t before = GetLoad(*admin).tokens();
  uint64_t watched = interval.tokens();
  Answer(server.stub(), 1);
  const uint64_t all = GetLoad(*admin).tokens();
  EXPECT_GT(all, before);
  while (watched < all && reader->Read(&interval)) watched += interval.tokens();
  EXPECT_EQ(watched, all);
  context->TryCancel();
  while (reader->Read(&interval)) {
  }
  reader->Finish();
  reader.reset();
  context.reset();  // with it the connection may go
  admin.reset();
  server.Stop();
}

TEST(ExpertAdmin, ADrainedServerFinishesWhatRunsAndWaitsForItsEnd) {
  ServedModel server({"--max-running", "128"});
  Running endless(server.stub(), AskForever("endless"));
  auto admin = Admin(server);
  auto context = Context();
  auto drain = admin->Drain(context.get(), v1::DrainRequest());
  v1::DrainResponse report;
  ASSERT_TRUE(drain->Read(&report));
  v1::GenerateResponse response;
  const grpc::Status refused = server.stub().Generate(Context().get(), Ask("x", 4), &response);
  EXPECT_EQ(refused.error_code(), Code::UNAVAILABLE);
  EXPECT_THAT(refused.error_message(), HasSubstr("draining"));
  v1::AbortRequest abort;
  abort.set_request_id("endless");
  v1::AbortResponse aborted;
  EXPECT_TRUE(server.stub().Abort(Context().get(), abort, &aborted).ok());
  EXPECT_TRUE(endless.ReadToTheEnd().ok());
  while (drain->Read(&report)) {
  }
  EXPECT_TRUE(drain->Finish().ok());
  EXPECT_EQ(report.running() + report.waiting() + report.failed(), 0u);
  EXPECT_TRUE(server.AwaitMetric("ballast_draining", 1));
  EXPECT_EQ(server.Get("/health").status, 503);
  drain.reset();
  context.reset();
  admin.reset();
  EXPECT_THAT(server.Stop(), HasSubstr("draining by=admin"));
}

TEST(ExpertAdmin, ADeadlineEndsWhatADrainWaitsFor) {
  ServedModel server;
  Running endless(server.stub(), AskForever("endless"));
  auto admin = Admin(server);
  v1::DrainRequest request;
  request.set_deadline_s(0.2);
  auto context = Context();
  auto drain = admin->Drain(context.get(), request);
  v1::DrainResponse report;
  while (drain->Read(&report)) {
  }
  EXPECT_TRUE(drain->Finish().ok());
  EXPECT_EQ(report.failed(), 1u);
  const grpc::Status status = endless.ReadToTheEnd();
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("deadline of 0.2 s"));
  drain.reset();
  context.reset();
  admin.reset();
  server.Stop();
}

}  // namespace
}  // namespace ballast
