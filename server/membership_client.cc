#include "server/membership_client.h"

#include <thread>
#include <utility>

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "ballast/v1/membership.grpc.pb.h"

namespace ballast {
namespace {

using Clock = std::chrono::steady_clock;

// The leader may start later: it is asked again as often.
constexpr std::chrono::milliseconds kRetry(250);
// A value that is asked for within its limit may need this much longer to travel.
constexpr std::chrono::seconds kTravel(5);
// A leader that started a little later than this rank gives up as much later, and says who is
// missing.
constexpr std::chrono::seconds kLeaderSays(1);

double Seconds(std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; }

std::unique_ptr<grpc::ClientContext> Within(std::chrono::milliseconds limit) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + limit);
  return context;
}

}  // namespace

struct MembershipClient::Stub {
  std::unique_ptr<v1::Membership::Stub> calls;

  absl::Status Status(const std::string& leader, const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    const auto code = static_cast<absl::StatusCode>(status.error_code());
    return {code, absl::StrCat("leader ", leader, ": ", status.error_message())};
  }
};

MembershipClient::MembershipClient(const std::string& leader)
    : leader_(leader), stub_(std::make_unique<Stub>()) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(kRetry.count()));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(kRetry.count()));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(kRetry.count()));
  // Else a name is not looked up again for half a minute, and no connection tried.
  arguments.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, static_cast<int>(kRetry.count()));
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  stub_->calls = v1::Membership::NewStub(
      grpc::CreateCustomChannel(leader, grpc::InsecureChannelCredentials(), arguments));
}

MembershipClient::~MembershipClient() = default;

absl::StatusOr<uint64_t> MembershipClient::Join(int rank, int world_size,
                                                const std::vector<JoinFact>& facts,
                                                std::chrono::milliseconds limit) {
  v1::JoinRequest request;
  request.set_rank(rank);
  request.set_world_size(world_size);
  for (const JoinFact& fact : facts) {
    v1::JoinFact& to = *request.add_facts();
    to.set_name(fact.name);
    to.set_value(fact.value);
  }
  const Clock::time_point end = Clock::now() + limit;
  grpc::Status status;
  do {
    v1::JoinResponse response;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    status = stub_->calls->Join(Within(left + kLeaderSays).get(), request, &response);
    if (status.ok()) return response.epoch();
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
        status.error_details().empty()) {  // the leader gives its errors details
      return absl::DeadlineExceededError(
          absl::StrCat("leader ", leader_, ": did not say within ", Seconds(limit),
                       " s that all ranks have joined; its log names those that are missing"));
    }
    // The leader is not there yet, or has its hands full.
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE &&
        status.error_code() != grpc::StatusCode::RESOURCE_EXHAUSTED) {
      return stub_->Status(leader_, status);
    }
    std::this_thread::sleep_for(kRetry);
  } while (Clock::now() < end);
  return absl::DeadlineExceededError(absl::StrCat("leader ", leader_, ": not there within ",
                                                  Seconds(limit), " s: ", status.error_message()));
}

absl::Status MembershipClient::Set(const std::string& key, const std::string& value) {
  v1::SetValueRequest request;
  request.set_key(key);
  request.set_value(value);
  v1::SetValueResponse response;
  return stub_->Status(leader_, stub_->calls->SetValue(Within(kTravel).get(), request, &response));
}

absl::StatusOr<std::string> MembershipClient::Get(const std::string& key,
                                                  std::chrono::milliseconds limit) {
  v1::GetValueRequest request;
  request.set_key(key);
  request.set_limit_ms(limit.count());
  v1::GetValueResponse response;
  RETURN_IF_ERROR(stub_->Status(
      leader_, stub_->calls->GetValue(Within(limit + kTravel).get(), request, &response)));
  return std::move(*response.mutable_value());
}

}  // namespace ballast
