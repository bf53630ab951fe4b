// What each command can be told, and the one table per command that says so (options.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/options.h"
#include "engine/status.h"
#include "server/launch.h"
#include "server/log.h"

namespace ballast {

struct ServeOptions {
  EngineOptions engine;
  std::string grpc = "127.0.0.1:7000";
  std::string http = "127.0.0.1:7001";
  double drain_timeout_seconds = 30;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  std::string api_key_file;
  std::string config;
  int64_t expert_series = 20000;
  LaunchOptions launch;
  bool ranks_given = false;
  std::string interface;  // empty: the one that leads to the leader
  double join_timeout_seconds = 300;
  double peer_timeout_seconds = 10;
  LogOptions log;
};

struct GenerateOptions {
  std::string prompt;  // "-": read it from stdin
  std::string server = "127.0.0.1:7000";
  std::string model;
  bool json = false;
  std::optional<int> max_tokens;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int> top_k;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  double timeout_seconds = 0;  // 0: none
  std::string api_key_file;
  std::string tls_ca;
};

struct InspectOptions {
  EngineOptions engine;
  bool json = false;
};

struct PlanOptions {
  EngineOptions engine;
  std::string format = "yaml";
};

struct TopOptions {
  std::string server = "127.0.0.1:7000";
  double interval_seconds = 1;
  bool once = false;
  double window_seconds = 0;  // with once; 0: since the server started
  std::string api_key_file;
  std::string tls_ca;
};

// Read a command's arguments (those after its name) into `options`. The string, when there is one,
// is to be printed on stdout instead of running. Errors are INVALID_ARGUMENT: wrong usage.
absl::StatusOr<std::optional<std::string>> ReadServeOptions(
    const std::vector<std::string>& arguments, ServeOptions& options);
absl::StatusOr<std::optional<std::string>> ReadGenerateOptions(
    const std::vector<std::string>& arguments, GenerateOptions& options);
absl::StatusOr<std::optional<std::string>> ReadInspectOptions(
    const std::vector<std::string>& arguments, InspectOptions& options);
absl::StatusOr<std::optional<std::string>> ReadPlanOptions(
    const std::vector<std::string>& arguments, PlanOptions& options);
absl::StatusOr<std::optional<std::string>> ReadTopOptions(const std::vector<std::string>& arguments,
                                                          TopOptions& options);

// docs/options.md: all tables as Markdown.
std::string DescribeOptions();

}  // namespace ballast
