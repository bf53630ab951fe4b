#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace ballast {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What promtool says about a page; empty when it is clean.
std::string Promtool(const std::string& page) {
  const std::string path = testing::TempDir() + "promtool.out";
  FILE* pipe = popen(("promtool check metrics >" + path + " 2>&1").c_str(), "w");
  EXPECT_EQ(std::fwrite(page.data(), 1, page.size(), pipe), page.size());
  const int status = pclose(pipe);
  std::ostringstream said;
  said << std::ifstream(path).rdbuf();
  if (status != 0) said << "(exit " << status << ")";
  return said.str();
}

bool HasPromtool() { return std::system("command -v promtool >/dev/null 2>&1") == 0; }

StepResult RoutedRows(std::vector<int64_t> expert_rows) {
  StepResult result;
  result.ranks.emplace_back();
  result.ranks.back().run_rows = {1};
  result.ranks.back().balance = {{1, 1, 1, 1}};
  result.ranks.back().expert_rows = std::move(expert_rows);
  return result;
}

TEST(Metrics, EverySeriesExistsFromTheStart) {
  Metrics metrics({{1, 2}, 4, 2, 100});
  const std::string page = metrics.Page({});
  for (const char* line : {"ballast_requests_running 0",
                           "ballast_requests_waiting 0",
                           "ballast_kv_cache_usage_ratio 0",
                           "ballast_time_to_first_token_seconds_count 0",
                           "ballast_inter_token_latency_seconds_count 0",
                           "ballast_request_queue_seconds_count 0",
                           "ballast_request_seconds_count 0",
                           "ballast_step_seconds_count{phase=\"prefill\"} 0",
                           "ballast_step_seconds_count{phase=\"decode\"} 0",
                           "ballast_step_seconds_count{phase=\"mixed\"} 0",
                           "ballast_prompt_tokens_total 0",
                           "ballast_generated_tokens_total 0",
                           "ballast_prefix_cache_query_tokens_total 0",
                           "ballast_prefix_cache_hit_tokens_total 0",
                           "ballast_preemptions_total 0",
                           "ballast_requests_total{finish_reason=\"stop\"} 0",
                           "ballast_requests_total{finish_reason=\"length\"} 0",
                           "ballast_requests_total{finish_reason=\"aborted\"} 0",
                           "ballast_requests_total{finish_reason=\"failed\"} 0",
                           "ballast_requests_rejected_total{reason=\"queue_full\"} 0",
                           "ballast_progressing 1",
                           "ballast_draining 0",
                           "ballast_placement_version 1",
                           "ballast_slot_moves_total 0",
                           "ballast_predicted_step_seconds_total 0",
                           "ballast_replan_seconds_count 0",
                           "ballast_moved_bytes_total{cause=\"replan\"} 0",
                           "ballast_moved_bytes_total{cause=\"apply\"} 0",
                           "ballast_moved_bytes_total{cause=\"rollback\"} 0",
                           "ballast_rank_speed_ratio{rank=\"1\"} 1",
                           "ballast_exchange_wait_seconds_count{rank=\"1\"} 0",
                           "ballast_expert_replicas{layer=\"2\"} 4",
                           "ballast_rank_rows_total{layer=\"2\",rank=\"1\"} 0",
                           "ballast_spilled_rows_total{layer=\"2\"} 0",
                           "ballast_assign_rows_over_bound_total{layer=\"2\"} 0"}) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
  EXPECT_THAT(metrics.ExpertPage(),
              HasSubstr("ballast_expert_rows_total{layer=\"2\",expert=\"3\"} 0\n"));
}

TEST(Metrics, EventsAreCounted) {
  Metrics metrics({{1}, 2, 1, 100});
  const EngineEvents events = metrics.Events();
  events.on_tokens(7, 0);
  events.on_tokens(0, 2);
  events.on_prefix_query(7, 4);
  events.on_first_token(0.03);
  events.on_request_over({FinishReason::kLength, {}, 0.5});
  const StepResult result = RoutedRows({3, 1});
  events.on_step({0.01, 4, 0, 2, &result});
  events.on_step({0.01, 0, 4, 0, &result});
  events.on_step({0.01, 1, 3, 0, nullptr});
  metrics.CountRejected("queue_full");
  metrics.CountRejected("brand_new");
  EngineStats stats;
  stats.running = 2;
  stats.waiting = 3;
  const std::string page = metrics.Page(stats);
  for (const char* line :
       {"ballast_prompt_tokens_total 7", "ballast_generated_tokens_total 2",
        "ballast_prefix_cache_query_tokens_total 7", "ballast_prefix_cache_hit_tokens_total 4",
        "ballast_time_to_first_token_seconds_bucket{le=\"0.02\"} 0",
        "ballast_time_to_first_token_seconds_bucket{le=\"0.05\"} 1",
        "ballast_requests_total{finish_reason=\"length\"} 1", "ballast_preemptions_total 2",
        "ballast_step_seconds_count{phase=\"prefill\"} 1",
        "ballast_step_seconds_count{phase=\"decode\"} 1",
        "ballast_step_seconds_count{phase=\"mixed\"} 1", "ballast_requests_running 2",
        "ballast_requests_waiting 3", "ballast_requests_rejected_total{reason=\"queue_full\"} 1",
        "ballast_requests_rejected_total{reason=\"other\"} 1"}) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
  EXPECT_THAT(page, Not(HasSubstr("brand_new")));
  EXPECT_THAT(metrics.ExpertPage(),
              HasSubstr("ballast_expert_rows_total{layer=\"1\",expert=\"0\"} 6\n"));
}

TEST(Metrics, StepsTellOfRanksAndTheirBalance) {
  Metrics metrics({{1, 3}, 2, 2, 100});
  StepPlan plan;
  plan.costs.version = 1;
  plan.costs.speed = {1024, 512};
  StepResult result;
  result.ranks.resize(2);
  result.ranks[0].run_rows = {5, 7};
  result.ranks[1].run_rows = {3, 1};
  result.ranks[1].wait_seconds = 0.0015;
  for (RankResult& rank : result.ranks) rank.balance = {{2, 1, 4, 1'500'000}, {0, 0, 0, 500'000}};
  StepReport report;
  report.result = &result;
  report.plan = &plan;
  metrics.Events().on_step(report);
  plan.costs.version = 0;  // its times have no unit yet
  metrics.Events().on_step(report);
  const std::string page = metrics.Page({});
  for (const char* line :
       {"ballast_rank_rows_total{layer=\"1\",rank=\"0\"} 10",
        "ballast_rank_rows_total{layer=\"1\",rank=\"1\"} 6",
        "ballast_rank_rows_total{layer=\"3\",rank=\"0\"} 14",
        "ballast_rank_rows_total{layer=\"3\",rank=\"1\"} 2",
        "ballast_rank_speed_ratio{rank=\"0\"} 1", "ballast_rank_speed_ratio{rank=\"1\"} 0.5",
        "ballast_exchange_wait_seconds_bucket{rank=\"1\",le=\"0.001\"} 0",
        "ballast_exchange_wait_seconds_bucket{rank=\"1\",le=\"0.002\"} 2",
        "ballast_spilled_rows_total{layer=\"1\"} 4", "ballast_spilled_rows_total{layer=\"3\"} 0",
        "ballast_assign_rows_over_bound_total{layer=\"1\"} 8",
        "ballast_predicted_step_seconds_total 0.002"}) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
}

TEST(Metrics, ResultsWithoutBalanceCountAsFarAsTheyGo) {
  Metrics metrics({{1, 3}, 2, 2, 100});
  StepResult result;
  result.ranks.resize(3);
  result.ranks[2].run_rows = {1, 1, 1};
  StepReport report;
  report.result = &result;
  metrics.Events().on_step(report);
  EXPECT_THAT(metrics.Page({}), HasSubstr("ballast_rank_rows_total{layer=\"1\",rank=\"1\"} 0\n"));
}

TEST(Metrics, ChangesOfThePlacementAreCountedByTheirCause) {
  Metrics metrics({{1, 2}, 4, 2, 100});
  PlacementState placement;
  placement.version = 7;
  placement.layers = {{}, {2, 3, {0, 1, 2, 3, 0, -1}}, {2, 2, {0, 1, 2, 3}}};
  metrics.SetPlacement(placement);
  EXPECT_THAT(metrics.Page({}), HasSubstr("ballast_placement_version 7\n"));
  const EngineEvents events = metrics.Events();
  placement.version = 8;
  events.on_placement({MoveCause::kApply, &placement, 3, 300});
  events.on_placement({MoveCause::kRollback, &placement, 1, 100});
  events.on_replan(0.003);
  events.on_notice(true, "a move is stuck");
  events.on_notice(false, "planned");
  const std::string page = metrics.Page({});
  for (const char* line :
       {"ballast_placement_version 8", "ballast_slot_moves_total 4",
        "ballast_moved_bytes_total{cause=\"apply\"} 300",
        "ballast_moved_bytes_total{cause=\"rollback\"} 100",
        "ballast_moved_bytes_total{cause=\"replan\"} 0", "ballast_expert_replicas{layer=\"1\"} 5",
        "ballast_expert_replicas{layer=\"2\"} 4", "ballast_replan_seconds_count 1",
        "ballast_balance_warnings_total 1"}) {
    EXPECT_THAT(page, HasSubstr(std::string(line) + "\n"));
  }
}

TEST(Metrics, AStalledOrDrainingEngineShows) {
  Metrics metrics({{1}, 2, 1, 100});
  EngineStats stats;
  stats.progressing = false;
  stats.draining = true;
  EXPECT_THAT(metrics.Page(stats), HasSubstr("ballast_progressing 0\n"));
  EXPECT_THAT(metrics.Page(stats), HasSubstr("ballast_draining 1\n"));
}

TEST(Metrics, ExpertsBeyondTheLimitAreSummedByLayer) {
  Metrics metrics({{3, 5}, 4, 1, 6});
  const StepResult result = RoutedRows({1, 2, 3, 4, 10, 20, 30, 40});
  metrics.Events().on_step({0.01, 1, 0, 0, &result});
  const std::string page = metrics.ExpertPage();
  EXPECT_EQ(metrics.aggregated_experts(), 4);
  for (const char* series : {"{layer=\"3\",expert=\"0\"} 1", "{layer=\"3\",expert=\"1\"} 2",
                             "{layer=\"3\",expert=\"other\"} 7", "{layer=\"5\",expert=\"1\"} 20",
                             "{layer=\"5\",expert=\"other\"} 70"}) {
    EXPECT_THAT(page, HasSubstr(series));
  }
  EXPECT_THAT(page, Not(HasSubstr("expert=\"2\"")));
  EXPECT_THAT(page, HasSubstr("ballast_experts_aggregated 4"));
}

TEST(Metrics, ManyThreadsMayCountWhileOneReads) {
  Metrics metrics({{1}, 2, 1, 100});
  const EngineEvents events = metrics.Events();
  const StepResult result = RoutedRows({1, 1});
  std::thread counting([&] {
    for (int i = 0; i < 1000; ++i) events.on_step({0.01, 1, 0, 0, &result});
  });
  std::thread rejecting([&] {
    for (int i = 0; i < 1000; ++i) metrics.CountRejected("invalid");
  });
  for (int i = 0; i < 20; ++i) {
    metrics.Page({});
    metrics.ExpertPage();
  }
  counting.join();
  rejecting.join();
  EXPECT_THAT(metrics.ExpertPage(), HasSubstr("expert=\"1\"} 1000\n"));
  EXPECT_THAT(metrics.Page({}), HasSubstr("{reason=\"invalid\"} 1000\n"));
}

TEST(Metrics, PromtoolFindsNothingToSay) {
  if (!HasPromtool()) GTEST_SKIP() << "promtool is not installed (Debian: prometheus)";
  Metrics metrics({{1, 2}, 4, 2, 100});
  const EngineEvents events = metrics.Events();
  const StepResult result = RoutedRows({1, 2, 3, 4, 5, 6, 7, 8});
  events.on_step({0.01, 1, 0, 0, &result});
  events.on_token_latency(0.004);
  metrics.SetBuild("0.1.0", "a \"b\"\\c\nd \xff", "bf16", "avx2");
  EXPECT_THAT(metrics.Page({}), HasSubstr("model=\"a \\\"b\\\"\\\\c\\nd ?\""));
  EXPECT_EQ(Promtool(metrics.Page({})), "");
  EXPECT_EQ(Promtool(metrics.ExpertPage()), "");
  EXPECT_NE(Promtool("x_total 1\nx_total 2\n"), "");
}

}  // namespace
}  // namespace ballast
