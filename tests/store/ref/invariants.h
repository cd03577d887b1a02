#pragma once

#include <string>
#include <vector>

#include "store/database.h"
#include "store/ref/local_ref_store.h"
#include "store/root.h"

namespace kiln::store {

// What must hold for a store that nobody uses, after LocalRefStore::Drain: rows and folders agree.
// Each violation is one line.
std::vector<std::string> Violations(const Root& root, const Database& database,
                                    const LocalRefStore& store);

}  // namespace kiln::store
