#include "server/service_parts.h"

#include <string_view>

#include "server/rpc_status.h"

namespace ballast {

absl::StatusOr<Engine*> ServiceParts::Admit(const grpc::CallbackServerContext& context) const {
  if (!keys.empty()) {
    const auto& metadata = context.client_metadata();
    const auto header = metadata.find("authorization");
    if (header == metadata.end()) {
      return WithReason(
          absl::UnauthenticatedError("authorization: found no such header, expected Bearer KEY"),
          "NO_API_KEY");
    }
    if (!keys.Accept(std::string_view(header->second.data(), header->second.size()))) {
      return WithReason(absl::UnauthenticatedError(
                            "authorization: found another value, expected Bearer and a known key"),
                        "WRONG_API_KEY");
    }
  }
  Engine* const loaded = engine.load(std::memory_order_acquire);
  if (loaded == nullptr) {
    return WithReason(absl::UnavailableError("the model is still loading"), "LOADING");
  }
  return loaded;
}

}  // namespace ballast
