#pragma once

#include "absl/status/status.h"
#include "store/database.h"

namespace kiln::store {

// Reads every row of the cache index and compares them: each link has its back link and the
// reverse, each record its result, counts are right, no row stands without its node, no node
// without a reason. kDataLoss says what is wrong.
absl::Status CheckIndexIntegrity(Database& database);

}  // namespace kiln::store
