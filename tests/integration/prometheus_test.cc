// What deploy/ ships for Prometheus and Grafana, before a real Prometheus that scrapes a server
// under load: every query of every panel, and every recording rule, has an answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <yaml-cpp/yaml.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "ballast/v1/expert_admin.grpc.pb.h"
#include "tests/integration/served_model.h"

namespace ballast {
namespace {

using nlohmann::json;

const std::string kDeploy = BALLAST_SOURCE_DIR "/deploy/";
// Nothing takes so long: scrapes and rules come every second here.
constexpr std::chrono::seconds kAnswerLimit(120);

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  EXPECT_NE(text.str(), "") << path;
  return text.str();
}

json Dashboard() { return json::parse(Read(kDeploy + "grafana/ballast.json")); }

// A PromQL expression and where it stands.
struct Query {
  std::string where;
  std::string expr;
};

// As Grafana puts its variables into a query.
std::string WithVariables(const std::string& expr) {
  return absl::StrReplaceAll(expr, {{"$__rate_interval", "1m"}, {"$instance", ".*"}});
}

std::vector<Query> DashboardQueries() {
  const json dashboard = Dashboard();
  std::vector<Query> queries;
  for (const json& panel : dashboard.at("panels")) {
    for (const json& target : panel.value("targets", json::array())) {
      queries.push_back({absl::StrCat("panel \"", panel.at("title").get<std::string>(), "\" ",
                                      target.at("refId").get<std::string>()),
                         WithVariables(target.at("expr"))});
    }
  }
  for (const json& annotation : dashboard.at("annotations").at("list")) {
    if (!annotation.contains("expr")) continue;  // Grafana's own
    queries.push_back({absl::StrCat("annotation ", annotation.at("name").get<std::string>()),
                       WithVariables(annotation.at("expr"))});
  }
  for (const json& variable : dashboard.at("templating").at("list")) {
    if (variable.at("type") != "query") continue;
    // label_values(METRIC, LABEL)
    const std::string text = variable.at("definition");
    const size_t comma = text.find(',');
    EXPECT_TRUE(absl::StartsWith(text, "label_values(") && comma != std::string::npos) << text;
    queries.push_back({"variable", text.substr(13, comma - 13)});
  }
  return queries;
}

std::vector<Query> RecordedQueries() {
  std::vector<Query> queries;
  const YAML::Node rules = YAML::LoadFile(kDeploy + "prometheus/ballast.rules.yml");
  for (const YAML::Node& group : rules["groups"]) {
    for (const YAML::Node& rule : group["rules"]) {
      queries.push_back({"recording rule", rule["record"].as<std::string>()});
    }
  }
  return queries;
}

std::string UrlEncoded(const std::string& text) {
  std::string encoded;
  for (const char c : text) {
    absl::StrAppend(&encoded, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
  }
  return encoded;
}

// Prometheus with the shipped configuration, hurried, and pointed at a server.
class Prometheus {
 public:
  explicit Prometheus(const std::string& target)
      : folder_(absl::StrCat(testing::TempDir(), "ballast-prometheus-", getpid())) {
    std::filesystem::create_directories(folder_);
    for (const char* file : {"prometheus.yml", "ballast.rules.yml", "ballast.alerts.yml"}) {
      std::ofstream(folder_ + "/" + file) << absl::StrReplaceAll(
          Read(kDeploy + "prometheus/" + file), {{"127.0.0.1:7001", target},
                                                 {"_interval: 15s", "_interval: 1s"},
                                                 {"_interval: 30s", "_interval: 1s"}});
    }
    process_ = std::make_unique<Process>(std::vector<std::string>{
        "/usr/bin/env", "prometheus", "--config.file=" + folder_ + "/prometheus.yml",
        "--storage.tsdb.path=" + folder_ + "/data", "--web.listen-address=127.0.0.1:0"});
    EXPECT_TRUE(process_->WaitForErr("ready to receive web requests")) << process_->Err();
    const std::string log = process_->Err();
    const std::string mark = "msg=\"Listening on\" address=";
    const size_t at = log.find(mark);
    EXPECT_NE(at, std::string::npos) << log;
    if (at == std::string::npos) return;
    address_ = log.substr(at + mark.size(), log.find('\n', at) - at - mark.size());
  }
  ~Prometheus() {
    process_->Signal(SIGTERM);
    process_->WaitForEnd();
    process_.reset();
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }
  Prometheus(const Prometheus&) = delete;
  Prometheus& operator=(const Prometheus&) = delete;

  json Get(const std::string& path) const {
    const HttpAnswer answer = HttpGet(address_, path);
    json parsed = json::parse(answer.body, nullptr, /*allow_exceptions=*/false);
    EXPECT_EQ(answer.status, 200) << path << "\n" << answer.body;
    return parsed.is_object() ? parsed : json::object();
  }

  // Whether a query has an answer: a sample at least, and one that is a number.
  bool Answers(const std::string& expr) const {
    const json answer = Get("/api/v1/query?query=" + UrlEncoded(expr));
    if (answer.value("status", "") != "success") return false;
    for (const json& sample : answer.at("data").at("result")) {
      if (std::isfinite(std::stod(sample.at("value").at(1).get<std::string>()))) return true;
    }
    return false;
  }

 private:
  std::string folder_;
  std::unique_ptr<Process> process_;
  std::string address_;
};

// Requests and, now and then, a placement with fewer replicas: what happens at a server in a day.
class Load {
 public:
  explicit Load(ServedModel& server) : server_(server) {
    server.stub();
    for (int client = 0; client < 2; ++client) {
      threads_.emplace_back([this] {
        while (!stop_) {
          v1::GenerateResponse response;
          const v1::GenerateRequest request = Ask("The experts of this layer are busy today", 24);
          EXPECT_TRUE(server_.stub().Generate(Context().get(), request, &response).ok());
        }
      });
    }
    threads_.emplace_back([this] { ChangePlacements(); });
  }
  ~Load() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

 private:
  void ChangePlacements() {
    const auto admin = v1::ExpertAdmin::NewStub(
        grpc::CreateChannel(server_.grpc(), grpc::InsecureChannelCredentials()));
    v1::Placement even;
    EXPECT_TRUE(admin->GetPlacement(Context().get(), v1::GetPlacementRequest(), &even).ok());
    for (int change = 0; !stop_; ++change) {
      v1::ApplyPlacementRequest request;
      *request.mutable_placement() = even;
      // The last slots hold replicas: ever fewer of them, then all again.
      for (v1::LayerPlacement& layer : *request.mutable_placement()->mutable_layers()) {
        for (int i = 0; i <= change % 7; ++i) {
          layer.set_slot_expert(layer.slot_expert_size() - 1 - i, -1);
        }
      }
      v1::ApplyPlacementResponse response;
      const grpc::Status status = admin->ApplyPlacement(Context().get(), request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      std::this_thread::sleep_for(std::chrono::milliseconds(500));
    }
  }

  ServedModel& server_;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

bool HasPrometheus() { return std::system("command -v prometheus >/dev/null 2>&1") == 0; }

TEST(Prometheus, EveryPanelAndEveryRuleHasDataUnderLoad) {
  if (!HasPrometheus()) GTEST_SKIP() << "prometheus is not installed (Debian: prometheus)";
  ServedModel server({"--ranks", "4", "--slots-per-rank", "10", "--replan-interval", "1s"});
  std::vector<Query> open = DashboardQueries();
  EXPECT_GT(open.size(), 40u);
  const std::vector<Query> recorded = RecordedQueries();
  EXPECT_GT(recorded.size(), 10u);
  open.insert(open.end(), recorded.begin(), recorded.end());
  {
    Prometheus prometheus(server.http());
    const Load load(server);
    const auto deadline = std::chrono::steady_clock::now() + kAnswerLimit;
    while (!open.empty() && std::chrono::steady_clock::now() < deadline) {
      std::erase_if(open, [&](const Query& query) { return prometheus.Answers(query.expr); });
      if (!open.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(250));
    }
    for (const Query& query : open) ADD_FAILURE() << query.where << ": no data: " << query.expr;

    // Every rule, the alerts' too, was evaluated without an error.
    const json rules = prometheus.Get("/api/v1/rules");
    int alerts = 0;
    for (const json& group : rules.at("data").at("groups")) {
      for (const json& rule : group.at("rules")) {
        EXPECT_EQ(rule.at("health"), "ok") << rule.dump(1);
        alerts += rule.at("type") == "alerting" ? 1 : 0;
      }
    }
    EXPECT_GE(alerts, 10);
    const json targets = prometheus.Get("/api/v1/targets");
    for (const json& target : targets.at("data").at("activeTargets")) {
      EXPECT_EQ(target.at("health"), "up") << target.dump(1);
    }
  }
  server.Stop();
}

TEST(Dashboard, PanelsHaveNumbersAndPlacesOfTheirOwn) {
  std::set<int> ids;
  std::set<std::pair<int, int>> taken;
  const json dashboard = Dashboard();
  for (const json& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second) << panel.at("title");
    const json& place = panel.at("gridPos");
    EXPECT_LE(place.at("x").get<int>() + place.at("w").get<int>(), 24) << panel.at("title");
    for (int x = 0; x < place.at("w"); ++x) {
      for (int y = 0; y < place.at("h"); ++y) {
        EXPECT_TRUE(
            taken.insert({place.at("x").get<int>() + x, place.at("y").get<int>() + y}).second)
            << panel.at("title");
      }
    }
    if (panel.at("type") == "row") continue;
    EXPECT_NE(panel.value("description", ""), "") << panel.at("title");
    EXPECT_FALSE(panel.at("targets").empty()) << panel.at("title");
    for (const json& target : panel.at("targets")) {
      EXPECT_EQ(target.at("datasource").at("uid"), "${datasource}") << panel.at("title");
      EXPECT_NE(target.at("expr").get<std::string>().find("$instance"), std::string::npos)
          << panel.at("title");
    }
  }
}

}  // namespace
}  // namespace ballast
