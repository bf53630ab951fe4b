// The built program serving the bundled model on free ports, and clients of it.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "ballast/v1/text_generation.grpc.pb.h"
#include "tests/integration/http_get.h"
#include "tests/integration/process.h"

namespace ballast {

inline constexpr char kBundledModel[] = BALLAST_SOURCE_DIR "/models/ballast-mini";
// No wait of a test is longer. Nothing that is measured: only a hang takes so long.
inline constexpr std::chrono::seconds kHang(60);

// `ballast serve` of the bundled model, with `more` behind it.
std::vector<std::string> ServeCommand(const std::vector<std::string>& more,
                                      const std::string& program = BALLAST_PROGRAM);

// A server that is ready for requests; the test fails when it does not become one.
class ServedModel {
 public:
  explicit ServedModel(const std::vector<std::string>& more = {},
                       const std::string& program = BALLAST_PROGRAM);

  Process& process() { return process_; }
  const std::string& grpc() const { return grpc_; }  // HOST:PORT
  const std::string& http() const { return http_; }  // HOST:PORT

  // `ballast generate` against it, with `more` behind it.
  std::vector<std::string> GenerateCommand(const std::vector<std::string>& more) const;
  Finished Generate(const std::vector<std::string>& more, const std::string& input = "") const;

  // A connection in plain text that lasts until Disconnect or Stop.
  v1::TextGeneration::Stub& stub();
  void Disconnect();
  // Another one.
  std::unique_ptr<v1::TextGeneration::Stub> Connect(grpc::ChannelArguments arguments = {}) const;

  HttpAnswer Get(const std::string& path) const;
  // The value of a series on /metrics, named with its labels; NaN when it is not there.
  double Metric(const std::string& series) const;
  // Waits until a series is at least, or exactly, so much. False: it was not for kHang.
  bool AwaitMetricAtLeast(const std::string& series, double value) const;
  bool AwaitMetric(const std::string& series, double value) const;
  // Waits until nothing runs or waits and no block of KV is in use. False: not within kHang.
  bool AwaitIdle() const;

  // Asks it to end and expects that it does, with exit code 0. What it logged. Every call
  // should be over.
  std::string Stop();

 private:
  Process process_;
  std::string grpc_;
  std::string http_;
  std::unique_ptr<v1::TextGeneration::Stub> stub_;
};

// A call's context: its deadline ends whatever hangs.
std::unique_ptr<grpc::ClientContext> Context(std::chrono::milliseconds limit = kHang);

v1::GenerateRequest Ask(const std::string& text, int max_tokens);

// Work that outlasts any test: 64 outputs, each to the end of the context.
v1::GenerateRequest AskForever(const std::string& id);

// A stream that is being answered: the first chunk has come.
class Running {
 public:
  Running(v1::TextGeneration::Stub& stub, const v1::GenerateRequest& request);
  // Cancels it if it still runs.
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  bool Read() { return reader_->Read(&chunk_); }
  const v1::GenerateChunk& chunk() const { return chunk_; }  // the last one read
  // These end it; once.
  grpc::Status ReadToTheEnd();
  grpc::Status Cancel();

 private:
  std::unique_ptr<grpc::ClientContext> context_ = Context();
  std::unique_ptr<grpc::ClientReader<v1::GenerateChunk>> reader_;  // null: over
  v1::GenerateChunk chunk_;
};

}  // namespace ballast
