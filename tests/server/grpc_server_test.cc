// What surrounds the calls: health, reflection, keys, TLS, listening.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include <grpcpp/generic/generic_stub.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/grpc_fixture.h"

namespace ballast {
namespace {

using Code = grpc::StatusCode;
using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr char kService[] = "ballast.v1.TextGeneration";

class GrpcServing : public GrpcTest {
 protected:
  grpc::Status Check(const std::string& service, HealthCheckResponse* response) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    return Health::NewStub(channel_)->Check(&context, request, response);
  }
  HealthCheckResponse::ServingStatus Status(const std::string& service) {
    HealthCheckResponse response;
    EXPECT_TRUE(Check(service, &response).ok());
    return response.status();
  }
  void AwaitStatus(HealthCheckResponse::ServingStatus status) {
    while (Status("") != status) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(Status(kService), status);
  }
  grpc::Status GetModelInfo(const std::string& authorization = "") {
    grpc::ClientContext context;
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    v1::GetModelInfoResponse info;
    return stub_->GetModelInfo(&context, v1::GetModelInfoRequest(), &info);
  }
};

TEST_F(GrpcServing, BeforeTheModelIsLoadedItListensAndSaysSo) {
  Listen();
  EXPECT_EQ(Status(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Status(kService), HealthCheckResponse::NOT_SERVING);
  const grpc::Status status = Generate(Ids({5}));
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(status), "LOADING");
  EXPECT_EQ(GetModelInfo().error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(rejected(), std::vector<std::string>{"loading"});
}

TEST_F(GrpcServing, HealthFollowsTheEngine) {
  Serve(std::make_unique<FakeEngine>());
  AwaitStatus(HealthCheckResponse::SERVING);
  EXPECT_TRUE(server_->serving());
  engine_->SetProgressing(false);
  AwaitStatus(HealthCheckResponse::NOT_SERVING);
  engine_->SetProgressing(true);
  AwaitStatus(HealthCheckResponse::SERVING);
  server_->SetServing(false);
  EXPECT_EQ(Status(""), HealthCheckResponse::NOT_SERVING);  // at once
  server_->SetServing(true);
  AwaitStatus(HealthCheckResponse::SERVING);
  engine_->StartDrain();
  AwaitStatus(HealthCheckResponse::NOT_SERVING);
}

TEST_F(GrpcServing, HealthOfAnUnknownServiceIsNotFound) {
  Listen();
  HealthCheckResponse response;
  EXPECT_EQ(Check("ballast.v1.Nothing", &response).error_code(), Code::NOT_FOUND);
}

TEST_F(GrpcServing, WatchersHearOfChangesAndOfTheEnd) {
  Listen();
  const auto stub = Health::NewStub(channel_);
  grpc::ClientContext context;
  const auto watch = stub->Watch(&context, HealthCheckRequest());
  grpc::ClientContext other_context;
  HealthCheckRequest unknown;
  unknown.set_service("ballast.v1.Nothing");
  const auto other = stub->Watch(&other_context, unknown);
  HealthCheckResponse response;
  ASSERT_TRUE(other->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);

  engine_ = std::make_unique<FakeEngine>();
  server_->SetEngine(engine_.get());
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);

  // A watcher does not hold up a shutdown.
  server_->Shutdown(std::chrono::hours(1));
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
  EXPECT_EQ(watch->Finish().error_code(), Code::UNAVAILABLE);
  EXPECT_EQ(other->Finish().error_code(), Code::UNAVAILABLE);
}

// One message to reflection and its answer, as bytes: Debian packages no stub for it.
std::string Reflect(const std::shared_ptr<grpc::Channel>& channel, const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto wait = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  const auto call = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  wait();
  const grpc::Slice slice(request);
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  wait();
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  EXPECT_TRUE(wait());
  call->WritesDone(nullptr);
  wait();
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  grpc::Slice joined;
  EXPECT_TRUE(answer.DumpToSingleSlice(&joined).ok());
  return std::string(reinterpret_cast<const char*>(joined.begin()), joined.size());
}

std::string LengthDelimited(char tag, const std::string& value) {
  return std::string{tag, static_cast<char>(value.size())} + value;
}

TEST_F(GrpcServing, ReflectionListsServicesAndKnowsTheirMessages) {
  Listen();
  constexpr char kListServices = 7 << 3 | 2;
  constexpr char kFileContainingSymbol = 4 << 3 | 2;
  const std::string services = Reflect(channel_, LengthDelimited(kListServices, "*"));
  EXPECT_NE(services.find(kService), std::string::npos);
  EXPECT_NE(services.find("grpc.health.v1.Health"), std::string::npos);
  EXPECT_NE(services.find("ballast.v1.ExpertAdmin"), std::string::npos);
  for (const std::string symbol : {kService, "ballast.v1.ExpertAdmin", "grpc.health.v1.Health"}) {
    const std::string file = Reflect(channel_, LengthDelimited(kFileContainingSymbol, symbol));
    EXPECT_NE(file.find("Request"), std::string::npos) << symbol;
  }
}

TEST_F(GrpcServing, WithKeysOnlyTheirHoldersMayCall) {
  const std::string path = testing::TempDir() + "ballast_api_keys";
  std::ofstream(path) << "# test\nopen-sesame\n";
  GrpcOptions options;
  options.api_key_file = path;
  Serve(std::make_unique<FakeEngine>(), options);
  EXPECT_TRUE(GetModelInfo("Bearer open-sesame").ok());
  grpc::Status status = GetModelInfo();
  EXPECT_EQ(status.error_code(), Code::UNAUTHENTICATED);
  EXPECT_EQ(ReasonOf(status), "NO_API_KEY");
  status = GetModelInfo("Bearer open-sesam");
  EXPECT_EQ(status.error_code(), Code::UNAUTHENTICATED);
  EXPECT_EQ(ReasonOf(status), "WRONG_API_KEY");
  EXPECT_EQ(Generate(Ids({5})).error_code(), Code::UNAUTHENTICATED);
  EXPECT_EQ(rejected(), std::vector<std::string>{"unauthenticated"});
  AwaitStatus(HealthCheckResponse::SERVING);  // health is exempt
}

TEST_F(GrpcServing, AConnectionThatSaysNothingDoesNotHoldUpAShutdown) {
  Serve(std::make_unique<FakeEngine>());
  const int silent = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(server_->port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(silent, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  v1::GetModelInfoResponse info;
  grpc::ClientContext context;
  EXPECT_TRUE(stub_->GetModelInfo(&context, {}, &info).ok());  // the silent one is in by now
  server_->Shutdown(std::chrono::hours(1));
  close(silent);
}

TEST_F(GrpcServing, TwoServersCannotShareAnAddress) {
  Listen();
  EXPECT_GT(server_->port(), 0);
  EXPECT_EQ(server_->address(), "127.0.0.1:" + std::to_string(server_->port()));
  GrpcOptions options;
  options.address = server_->address();
  const auto second = GrpcServer::Start(options, {});
  ASSERT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_NE(second.status().ToString().find(options.address), std::string::npos);
}

class GrpcTls : public GrpcServing {
 protected:
  static std::string Path(const std::string& name) {
    return BALLAST_SOURCE_DIR "/tests/data/tls/" + name;
  }
  static std::string Contents(const std::string& name) {
    std::ifstream file(Path(name));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void ConnectWith(const grpc::SslCredentialsOptions& options) {
    channel_ = grpc::CreateChannel(server_->address(), grpc::SslCredentials(options));
    stub_ = v1::TextGeneration::NewStub(channel_);
  }
  static GrpcOptions Options() {
    GrpcOptions options;
    options.tls_cert = Path("server.pem");
    options.tls_key = Path("server.key");
    return options;
  }
};

TEST_F(GrpcTls, ClientsThatKnowTheAuthorityAreServed) {
  Serve(std::make_unique<FakeEngine>(), Options());
  EXPECT_EQ(GetModelInfo().error_code(), Code::UNAVAILABLE);  // in plain text
  ConnectWith({Contents("ca.pem"), "", ""});
  EXPECT_TRUE(GetModelInfo().ok());
}

TEST_F(GrpcTls, WithAClientAuthorityClientsMustShowACertificate) {
  GrpcOptions options = Options();
  options.tls_client_ca = Path("ca.pem");
  Serve(std::make_unique<FakeEngine>(), options);
  ConnectWith({Contents("ca.pem"), "", ""});
  EXPECT_EQ(GetModelInfo().error_code(), Code::UNAVAILABLE);
  ConnectWith({Contents("ca.pem"), Contents("client.key"), Contents("client.pem")});
  EXPECT_TRUE(GetModelInfo().ok());
}

TEST_F(GrpcTls, AKeyOfAnotherCertificateIsAnErrorAtStart) {
  GrpcOptions options = Options();
  options.address = "127.0.0.1:0";
  options.tls_key = Path("client.key");
  EXPECT_FALSE(GrpcServer::Start(options, {}).ok());
}

}  // namespace
}  // namespace ballast
