// Which of this machine's addresses another machine would see.
#pragma once

#include <string>

#include "engine/status.h"

namespace ballast {

// The address that a connection to `host` would come from; for a host that is this machine, that
// very address. Sends nothing. UNAVAILABLE when the name is unknown or no route leads there.
absl::StatusOr<std::string> AddressTowards(const std::string& host, int port);

}  // namespace ballast
