#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "solver/internal/vertex.h"

namespace kiln::solver {

using InputKeys = std::vector<std::vector<store::InputKey>>;  // of each input

// Finds executions by any of their keys: an execution has key sets for its inputs, and equals
// another when the op digest is the same and every input has a key in common.
//
// It also remembers when something was last saved under a key by an execution that is gone, so that
// an edge knows whether a look-up made earlier still holds.
//
// Cost: O(keys) for each call, plus the executions that share the rarest of the keys.
class ExecutionTable {
 public:
  void Add(Execution* execution);
  void Remove(Execution* execution);

  // The first execution equal to these keys that `accept` takes, or null. An input without keys
  // equals nothing.
  Execution* Find(absl::Span<const std::string> op_digests, const InputKeys& keys,
                  absl::FunctionRef<bool(const Execution&)> accept) const;

  // Whether a result may have been saved under these keys after `clock`.
  bool SavedSince(absl::Span<const std::string> op_digests, const InputKeys& keys,
                  uint64_t clock) const;
  // The same for one key of one input.
  bool KeySavedSince(const std::string& op_digest, uint32_t input, const store::InputKey& key,
                     uint64_t clock) const;

  // Forgets what is known of executions that are gone. `clock`: the look-up clock now.
  void ForgetSaves(uint64_t clock);

  size_t size() const { return buckets_.size(); }

 private:
  struct Bucket {
    absl::InlinedVector<Execution*, 1> executions;
    uint64_t saved = 0;  // the clock when one that is gone had last saved
  };

  static uint64_t Hash(const std::string& op_digest, uint32_t input, const store::InputKey* key);
  template <typename F>
  static void ForEachHash(absl::Span<const std::string> op_digests, const InputKeys& keys, F&& f);

  absl::flat_hash_map<uint64_t, Bucket> buckets_;
  uint64_t forgotten_ = 0;
};

}  // namespace kiln::solver
