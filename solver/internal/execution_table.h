#pragma once

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "solver/internal/large_table.h"
#include "solver/internal/vertex.h"

namespace kiln::solver {

// Finds executions by any of their keys: an execution has key sets for its inputs, and equals
// another when the op digest is the same and every input has a key in common.
//
// It also remembers when something was last saved under a key by an execution that is gone, so that
// an edge knows whether a look-up made earlier still holds.
//
// Cost: O(keys) for each call, for Find plus the executions that share the rarest of the keys.
class ExecutionTable {
 public:
  // Room for `more` keys, so that a large graph does not grow the table step by step.
  void Reserve(size_t more) { buckets_.reserve(buckets_.size() + more); }
  void Add(Execution* execution);
  void Remove(Execution* execution);
  // The execution has saved a result, at its save_clock.
  void Saved(const Execution& execution);

  // An execution equal to these keys that `accept` takes, or null. An input without keys equals
  // nothing.
  Execution* Find(const CacheMaps& maps, const InputKeys& keys,
                  absl::FunctionRef<bool(const Execution&)> accept) const;

  // Whether one that is gone may have saved a result under these keys after `clock`.
  bool SavedSince(const CacheMaps& maps, const InputKeys& keys, uint64_t clock) const;
  // Whether any may have saved one under this key of one input after `clock`.
  bool KeySavedSince(absl::string_view op_digest, uint32_t input, const store::InputKey& key,
                     uint64_t clock) const;

  // Forgets what is known of executions that are gone. `clock`: the look-up clock now.
  void ForgetSaves(uint64_t clock);

  size_t size() const { return buckets_.size(); }

 private:
  struct Bucket {
    absl::InlinedVector<Execution*, 1> executions;
    uint64_t saved = 0;       // the clock when one of them, or one that is gone, had last saved
    uint64_t saved_gone = 0;  // the same of those that are gone
  };

  static uint64_t Hash(absl::string_view op_digest, uint32_t input, const store::InputKey* key);
  template <typename F>
  static void ForEachHash(const Execution& execution, F&& f);
  const Bucket* Find(uint64_t hash) const;

  LargeTable<uint64_t, Bucket> buckets_;
  uint64_t forgotten_ = 0;
};

}  // namespace kiln::solver
