#pragma once

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "store/cache_index.h"

namespace kiln::daemon {

// The key of an imported record with a result: names the operation (its record digest) and the
// exact content (the diff ids of the layers, lowest first), so that what is saved under it is true
// whoever imported it from wherever (solver/DESIGN.md, Imported keys).
store::KeyId ImportedResultKey(const Digest& record, absl::Span<const Digest> diff_ids);

// The key of an imported record that is only a step on the way: `way` says how it is reached.
store::KeyId ImportedStepKey(const Digest& record, absl::string_view way);

// Imported keys begin with bytes that no other key has but by a chance of 2^-64: the cache index
// names them as what its nodes are reached from, and an export must tell them from root keys.
bool IsImportedKey(const store::KeyId& key);

}  // namespace kiln::daemon
