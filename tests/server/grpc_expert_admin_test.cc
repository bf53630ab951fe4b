// ExpertAdmin: what operators see and decide, and how its streams end.
#include <gmock/gmock.h>

#include <fstream>
#include <string>
#include <thread>

#include "ballast/v1/expert_admin.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/grpc_fixture.h"

namespace ballast {
namespace {

using Code = grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ExpertLoad Load(int64_t rows) {
  ExpertLoad load;
  load.steps = rows;
  load.tokens = rows;
  load.layers = {{1, {rows, 0}, {rows, 0}}};
  return load;
}

class GrpcExpertAdmin : public GrpcTest {
 protected:
  // Two ranks, layers 1 and 2 with four experts.
  void ServeTwoRanks(GrpcOptions options = {}) {
    auto engine = std::make_unique<FakeEngine>();
    engine->mutable_info().ranks = 2;
    engine->mutable_info().config.experts = 4;
    PlacementState placement;
    placement.layers = {{}, {2, 2, {0, 1, 2, 3}}, {2, 2, {0, 1, 2, 3}}};
    engine->SetPlacement(placement);
    Serve(std::move(engine), std::move(options));
    admin_ = v1::ExpertAdmin::NewStub(channel_);
  }

  static v1::Placement SwappedLayer() {
    v1::Placement placement;
    placement.set_ranks(2);
    v1::LayerPlacement& layer = *placement.add_layers();
    layer.set_layer(2);
    layer.set_slots_per_rank(2);
    for (const int expert : {3, 2, 1, 0}) layer.add_slot_expert(expert);
    return placement;
  }

  grpc::Status Apply(const v1::Placement& placement, v1::ApplyPlacementResponse* response) {
    grpc::ClientContext context;
    v1::ApplyPlacementRequest request;
    *request.mutable_placement() = placement;
    return admin_->ApplyPlacement(&context, request, response);
  }

  grpc::Status GetLoad(double window, v1::ExpertLoad* load) {
    grpc::ClientContext context;
    v1::GetExpertLoadRequest request;
    request.set_window_s(window);
    return admin_->GetExpertLoad(&context, request, load);
  }

  static v1::WatchExpertLoadRequest Every(uint32_t ms) {
    v1::WatchExpertLoadRequest request;
    request.set_interval_ms(ms);
    return request;
  }

  grpc::ClientContext context_;
  std::unique_ptr<v1::ExpertAdmin::Stub> admin_;
};

TEST_F(GrpcExpertAdmin, LoadSinceTheStartIsTheEngines) {
  ServeTwoRanks();
  engine_->SetExpertLoad(Load(30));
  v1::ExpertLoad load;
  ASSERT_TRUE(GetLoad(0, &load).ok());
  EXPECT_EQ(load.tokens(), 30u);
  EXPECT_THAT(load.layers(0).expert_rows(), ElementsAre(30, 0));
  EXPECT_GE(load.window_s(), 0);
}

TEST_F(GrpcExpertAdmin, AWindowLeavesOutWhatCameBefore) {
  ServeTwoRanks();
  engine_->SetExpertLoad(Load(30));
  v1::ExpertLoad load;
  // The server takes a snapshot a second; until one of them is of these 30 rows and old enough,
  // windows reach further back.
  do {
    ASSERT_TRUE(GetLoad(0.001, &load).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  } while (load.tokens() != 0);
  engine_->SetExpertLoad(Load(35));
  ASSERT_TRUE(GetLoad(0.001, &load).ok());
  EXPECT_THAT(load.tokens(), testing::AnyOf(0u, 5u));  // 0: a snapshot came in between
  ASSERT_TRUE(GetLoad(0, &load).ok());
  EXPECT_EQ(load.tokens(), 35u);
}

TEST_F(GrpcExpertAdmin, NumbersOutOfRangeAreRefusedByTheirField) {
  ServeTwoRanks();
  v1::ExpertLoad load;
  EXPECT_EQ(FieldOf(GetLoad(-1, &load)), "window_s");
  EXPECT_EQ(FieldOf(GetLoad(1e9, &load)), "window_s");
  for (const uint32_t ms : {0u, 9u, 3'600'001u}) {
    grpc::ClientContext context;
    const auto reader = admin_->WatchExpertLoad(&context, Every(ms));
    EXPECT_FALSE(reader->Read(&load));
    EXPECT_EQ(FieldOf(reader->Finish()), "interval_ms");
  }
  v1::DrainRequest drain;
  drain.set_deadline_s(-1);
  v1::DrainResponse report;
  const auto reader = admin_->Drain(&context_, drain);
  EXPECT_FALSE(reader->Read(&report));
  EXPECT_EQ(FieldOf(reader->Finish()), "deadline_s");
  EXPECT_FALSE(engine_->Stats().draining);
}

TEST_F(GrpcExpertAdmin, WatchersGetTheLoadOfEachInterval) {
  ServeTwoRanks();
  engine_->SetExpertLoad(Load(30));
  const auto reader = admin_->WatchExpertLoad(&context_, Every(10));
  v1::ExpertLoad load;
  ASSERT_TRUE(reader->Read(&load));
  EXPECT_EQ(load.tokens(), 0u);
  EXPECT_GE(load.window_s(), 0.01);
  engine_->SetExpertLoad(Load(37));
  uint64_t tokens = 0;
  while (tokens < 7) {
    ASSERT_TRUE(reader->Read(&load));
    tokens += load.tokens();
  }
  EXPECT_EQ(tokens, 7u);
  context_.TryCancel();
  while (reader->Read(&load)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), Code::CANCELLED);
}

TEST_F(GrpcExpertAdmin, WatchersDoNotHoldUpAShutdown) {
  ServeTwoRanks();
  const auto reader = admin_->WatchExpertLoad(&context_, Every(10));
  v1::ExpertLoad load;
  ASSERT_TRUE(reader->Read(&load));
  server_->Shutdown(std::chrono::hours(1));
  while (reader->Read(&load)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "STOPPING");
}

TEST_F(GrpcExpertAdmin, AWatcherThatDoesNotReadIsEnded) {
  GrpcOptions options;
  options.slow_reader_limit = std::chrono::milliseconds(50);
  ServeTwoRanks(options);
  ExpertLoad large = Load(1);
  large.layers.assign(64, {1, std::vector<int64_t>(1 << 12, int64_t{1} << 40), {1}});
  engine_->SetExpertLoad(large);
  grpc::ChannelArguments small;
  small.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1024);
  small.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  Connect(small);
  const auto admin = v1::ExpertAdmin::NewStub(channel_);
  // On a busy machine the buffers fill slowly: then once more, with a longer sleep.
  Code code = Code::OK;
  for (auto sleep = std::chrono::milliseconds(500);
       code != Code::RESOURCE_EXHAUSTED && sleep < std::chrono::minutes(1); sleep *= 2) {
    grpc::ClientContext context;
    const auto reader = admin->WatchExpertLoad(&context, Every(10));
    v1::ExpertLoad load;
    ASSERT_TRUE(reader->Read(&load));
    const auto awake = std::chrono::steady_clock::now() + sleep;
    while (std::chrono::steady_clock::now() < awake) {
      // Differences are large too.
      for (LayerLoad& layer : large.layers) {
        for (int64_t& rows : layer.expert_rows) rows += int64_t{1} << 40;
      }
      engine_->SetExpertLoad(large);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    constexpr int kBuffered = 64;
    int read = 0;
    while (reader->Read(&load)) {
      if (++read == kBuffered) context.TryCancel();
    }
    code = reader->Finish().error_code();
  }
  EXPECT_EQ(code, Code::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcExpertAdmin, ThePlacementHasTheLayersWithExperts) {
  ServeTwoRanks();
  v1::Placement placement;
  ASSERT_TRUE(admin_->GetPlacement(&context_, v1::GetPlacementRequest(), &placement).ok());
  EXPECT_EQ(placement.version(), 1u);
  EXPECT_EQ(placement.ranks(), 2u);
  ASSERT_EQ(placement.layers_size(), 2);
  EXPECT_EQ(placement.layers(0).layer(), 1u);
  EXPECT_THAT(placement.layers(1).slot_expert(), ElementsAre(0, 1, 2, 3));
}

TEST_F(GrpcExpertAdmin, ApplyTellsWhatTheEngineSays) {
  ServeTwoRanks();
  engine_->OnApplyPlacement([](const PlacementRequest& request, const PlacementCallback& done) {
    EXPECT_EQ(request.layers.size(), 3u);
    EXPECT_THAT(request.layers[1].slot_expert, IsEmpty());
    EXPECT_THAT(request.layers[2].slot_expert, ElementsAre(3, 2, 1, 0));
    EXPECT_FALSE(request.dry_run);
    // Later and from elsewhere, as the real one does.
    std::thread([done] { done(PlacementChange{4, 3, 300, 1.5, 1.25}); }).detach();
  });
  v1::ApplyPlacementResponse response;
  const grpc::Status status = Apply(SwappedLayer(), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.version(), 4u);
  EXPECT_EQ(response.slot_moves(), 3u);
  EXPECT_EQ(response.bytes(), 300u);
  EXPECT_EQ(response.predicted_imbalance_before(), 1.5);
  EXPECT_EQ(response.predicted_imbalance_after(), 1.25);
}

TEST_F(GrpcExpertAdmin, ValidateNeverChangesAnything) {
  ServeTwoRanks();
  v1::ValidatePlacementRequest request;
  *request.mutable_placement() = SwappedLayer();
  v1::ValidatePlacementResponse response;
  EXPECT_TRUE(admin_->ValidatePlacement(&context_, request, &response).ok());
  EXPECT_EQ(engine_->GetPlacement().version, 1u);
  v1::ApplyPlacementRequest dry;
  *dry.mutable_placement() = SwappedLayer();
  dry.set_dry_run(true);
  grpc::ClientContext context;
  v1::ApplyPlacementResponse applied;
  EXPECT_TRUE(admin_->ApplyPlacement(&context, dry, &applied).ok());
  EXPECT_EQ(engine_->GetPlacement().version, 1u);
  EXPECT_TRUE(Apply(SwappedLayer(), &applied).ok());
  EXPECT_EQ(engine_->GetPlacement().version, 2u);
}

TEST_F(GrpcExpertAdmin, BadPlacementsAreRefusedByTheirFieldAndStaleOnesAborted) {
  ServeTwoRanks();
  v1::Placement bad = SwappedLayer();
  bad.mutable_layers(0)->set_slot_expert(0, 2);
  v1::ApplyPlacementResponse response;
  EXPECT_EQ(FieldOf(Apply(bad, &response)), "placement.layers[0].slot_expert");
  engine_->OnApplyPlacement([](const PlacementRequest&, const PlacementCallback& done) {
    done(absl::AbortedError("expected_version: found 3, expected 5"));
  });
  const grpc::Status status = Apply(SwappedLayer(), &response);
  EXPECT_EQ(status.error_code(), Code::ABORTED);
  EXPECT_THAT(status.error_message(), HasSubstr("found 3"));
}

TEST_F(GrpcExpertAdmin, BalancingIsPausedAndResumed) {
  ServeTwoRanks();
  for (const bool paused : {true, false}) {
    grpc::ClientContext context;
    v1::SetBalancingRequest request;
    request.set_paused(paused);
    v1::SetBalancingResponse response;
    ASSERT_TRUE(admin_->SetBalancing(&context, request, &response).ok());
    EXPECT_EQ(response.paused(), paused);
    EXPECT_EQ(response.mode(), "full");
    EXPECT_EQ(engine_->Balancing().paused, paused);
  }
}

TEST_F(GrpcExpertAdmin, ADrainRefusesNewRequestsAndReportsUntilNoneIsLeft) {
  ServeTwoRanks();
  grpc::ClientContext running_context;
  const auto running = stub_->GenerateStream(&running_context, Ids({5}, "a"));
  engine_->AwaitRequest("a");
  const auto drain = admin_->Drain(&context_, v1::DrainRequest());
  v1::DrainResponse report;
  ASSERT_TRUE(drain->Read(&report));
  EXPECT_EQ(report.running(), 1u);
  EXPECT_EQ(Generate(Ids({5}, "b")).error_code(), Code::UNAVAILABLE);
  engine_->Say("a", Last(Delta("end", {1})));
  v1::GenerateChunk chunk;
  while (running->Read(&chunk)) {
  }
  EXPECT_TRUE(running->Finish().ok());
  while (drain->Read(&report)) {
  }
  EXPECT_TRUE(drain->Finish().ok());
  EXPECT_EQ(report.running(), 0u);
  EXPECT_EQ(report.waiting(), 0u);
  EXPECT_EQ(report.failed(), 0u);
  while (server_->serving()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

TEST_F(GrpcExpertAdmin, PastItsDeadlineADrainFailsWhatRuns) {
  ServeTwoRanks();
  grpc::ClientContext running_context;
  const auto running = stub_->GenerateStream(&running_context, Ids({5}, "a"));
  engine_->AwaitRequest("a");
  v1::DrainRequest request;
  request.set_deadline_s(0);
  const auto drain = admin_->Drain(&context_, request);
  v1::DrainResponse report;
  while (drain->Read(&report)) {
  }
  EXPECT_TRUE(drain->Finish().ok());
  EXPECT_EQ(report.failed(), 1u);
  EXPECT_EQ(report.running(), 0u);
  v1::GenerateChunk chunk;
  EXPECT_FALSE(running->Read(&chunk));
  const grpc::Status status = running->Finish();
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("deadline of 0 s"));
}

TEST_F(GrpcExpertAdmin, KeysGuardEveryCall) {
  const std::string path = testing::TempDir() + "ballast_admin_keys";
  std::ofstream(path) << "open-sesame\n";
  GrpcOptions options;
  options.api_key_file = path;
  ServeTwoRanks(options);
  v1::ExpertLoad load;
  EXPECT_EQ(GetLoad(0, &load).error_code(), Code::UNAUTHENTICATED);
  v1::ApplyPlacementResponse response;
  EXPECT_EQ(Apply(SwappedLayer(), &response).error_code(), Code::UNAUTHENTICATED);
  const auto drain = admin_->Drain(&context_, v1::DrainRequest());
  v1::DrainResponse report;
  EXPECT_FALSE(drain->Read(&report));
  EXPECT_EQ(ReasonOf(drain->Finish()), "NO_API_KEY");
  EXPECT_FALSE(engine_->Stats().draining);
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer open-sesame");
  EXPECT_TRUE(admin_->GetExpertLoad(&context, v1::GetExpertLoadRequest(), &load).ok());
}

TEST_F(GrpcExpertAdmin, BeforeTheModelIsLoadedItSaysSoAndHealthKnowsIt) {
  Listen();
  admin_ = v1::ExpertAdmin::NewStub(channel_);
  v1::ExpertLoad load;
  const grpc::Status status = GetLoad(0, &load);
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "LOADING");
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("ballast.v1.ExpertAdmin");
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_TRUE(
      grpc::health::v1::Health::NewStub(channel_)->Check(&context_, request, &response).ok());
}

}  // namespace
}  // namespace ballast
