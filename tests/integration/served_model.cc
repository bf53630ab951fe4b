#include "tests/integration/served_model.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <thread>

namespace ballast {
namespace {

using Clock = std::chrono::steady_clock;

// What stands behind `name=` in a log.
std::string LoggedValue(const std::string& log, const std::string& name) {
  const size_t at = log.find(name + "=");
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 1;
  return log.substr(begin, log.find_first_of(" \n", begin) - begin);
}

template <typename Seen>
bool WaitUntil(Seen seen) {
  const Clock::time_point deadline = Clock::now() + kHang;
  while (!seen()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

}  // namespace

std::vector<std::string> ServeCommand(const std::vector<std::string>& more,
                                      const std::string& program) {
  std::vector<std::string> command = {program,       "serve",  kBundledModel, "--grpc",
                                      "127.0.0.1:0", "--http", "127.0.0.1:0"};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

ServedModel::ServedModel(const std::vector<std::string>& more, const std::string& program)
    : process_(ServeCommand(more, program)) {
  EXPECT_TRUE(process_.WaitForErr("info serving")) << process_.Err();
  const std::string log = process_.Err();
  const size_t at = log.find("listening ");
  EXPECT_NE(at, std::string::npos) << log;
  if (at == std::string::npos) return;
  grpc_ = LoggedValue(log.substr(at), "grpc");
  http_ = LoggedValue(log.substr(at), "http");
}

std::vector<std::string> ServedModel::GenerateCommand(const std::vector<std::string>& more) const {
  std::vector<std::string> command = {BALLAST_PROGRAM, "generate", "--server", grpc_};
  command.insert(command.end(), more.begin(), more.end());
  return command;
}

Finished ServedModel::Generate(const std::vector<std::string>& more,
                               const std::string& input) const {
  return RunProgram(GenerateCommand(more), input);
}

std::unique_ptr<v1::TextGeneration::Stub> ServedModel::Connect(
    grpc::ChannelArguments arguments) const {
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::TextGeneration::NewStub(
      grpc::CreateCustomChannel(grpc_, grpc::InsecureChannelCredentials(), arguments));
}

v1::TextGeneration::Stub& ServedModel::stub() {
  if (stub_ == nullptr) stub_ = Connect();
  return *stub_;
}

void ServedModel::Disconnect() { stub_.reset(); }

HttpAnswer ServedModel::Get(const std::string& path) const { return HttpGet(http_, path); }

double ServedModel::Metric(const std::string& series) const {
  const std::string page = "\n" + Get("/metrics").body;
  const size_t at = page.find("\n" + series + " ");
  if (at == std::string::npos) return std::numeric_limits<double>::quiet_NaN();
  return std::strtod(page.c_str() + at + series.size() + 2, nullptr);
}

bool ServedModel::AwaitMetricAtLeast(const std::string& series, double value) const {
  return WaitUntil([&] { return Metric(series) >= value; });
}

bool ServedModel::AwaitMetric(const std::string& series, double value) const {
  return WaitUntil([&] { return Metric(series) == value; });
}

bool ServedModel::AwaitIdle() const {
  return AwaitMetric("ballast_requests_running", 0) && AwaitMetric("ballast_requests_waiting", 0) &&
         AwaitMetric("ballast_kv_cache_usage_ratio", 0);
}

std::string ServedModel::Stop() {
  Disconnect();
  process_.Signal(SIGTERM);
  EXPECT_TRUE(process_.WaitForErr("info stopped")) << process_.Err();
  EXPECT_TRUE(process_.WaitForEnd()) << process_.Err();
  const Finished ended = process_.Wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  return ended.err;
}

std::unique_ptr<grpc::ClientContext> Context(std::chrono::milliseconds limit) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + limit);
  return context;
}

v1::GenerateRequest Ask(const std::string& text, int max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

v1::GenerateRequest AskForever(const std::string& id) {
  v1::GenerateRequest request;
  request.set_request_id(id);
  request.set_text("The experts");
  request.mutable_sampling()->set_n(64);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

Running::Running(v1::TextGeneration::Stub& stub, const v1::GenerateRequest& request)
    : reader_(stub.GenerateStream(context_.get(), request)) {
  EXPECT_TRUE(Read()) << "no first chunk";
}

Running::~Running() {
  if (reader_ != nullptr) Cancel();
}

grpc::Status Running::ReadToTheEnd() {
  while (Read()) {
  }
  grpc::Status status = reader_->Finish();
  reader_.reset();
  context_.reset();  // with it the connection may go
  return status;
}

grpc::Status Running::Cancel() {
  context_->TryCancel();
  return ReadToTheEnd();
}

}  // namespace ballast
