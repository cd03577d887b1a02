#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
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
  void Reserve(size_t more) { slots_.reserve(slots_.size() + more); }
  void Add(Execution* execution);
  void Remove(Execution* execution);
  // The execution has saved a result, at its save_clock.
  void Saved(const Execution& execution);

  // These keys will be asked for at once.
  void Prefetch(const CacheMaps& maps, const KeySets& keys) const;
  // An execution equal to these keys that `accept` takes, or null. An input without keys equals
  // nothing.
  Execution* Find(const CacheMaps& maps, const KeySets& keys,
                  absl::FunctionRef<bool(const Execution&)> accept) const;

  // Whether one that is gone may have saved a result under these keys after `clock`.
  bool SavedSince(const CacheMaps& maps, const KeySets& keys, uint64_t clock) const;
  // Whether any may have saved one under this key of one input after `clock`.
  bool KeySavedSince(const KnownMap& map, const KeySets::Key& key, uint64_t clock) const;

  // Forgets what is known of executions that are gone. `clock`: the look-up clock now.
  void ForgetSaves(uint64_t clock);

  size_t size() const { return slots_.size(); }

 private:
  // What is known under a hash: nearly always one execution, or that one is gone. Whatever is more
  // has a crowd.
  struct Crowd {
    std::vector<Execution*> executions;
    uint64_t saved = 0;       // the clock when one of them, or one that is gone, had last saved
    uint64_t saved_gone = 0;  // the same of those that are gone
  };
  class Slot {
   public:
    Slot() = default;  // a crowd
    static Slot Alone(Execution* execution) { return Slot(reinterpret_cast<uintptr_t>(execution)); }
    static Slot Gone(uint64_t clock) { return Slot(clock << 1 | 1); }

    bool is_crowd() const { return word_ == 0; }
    Execution* alone() const {
      return (word_ & 1) == 0 ? reinterpret_cast<Execution*>(word_) : nullptr;
    }
    uint64_t gone() const { return (word_ & 1) == 1 ? word_ >> 1 : 0; }

   private:
    explicit Slot(uint64_t word) : word_(word) {}
    uint64_t word_ = 0;
  };
  // Either of them in full. Of no use once the table changes.
  struct View {
    absl::Span<Execution* const> executions() const {
      return crowd != nullptr ? absl::MakeConstSpan(crowd->executions)
                              : absl::MakeConstSpan(&alone, alone != nullptr ? 1 : 0);
    }
    uint64_t saved() const;
    uint64_t saved_gone() const { return crowd != nullptr ? crowd->saved_gone : gone; }

    const Crowd* crowd = nullptr;
    Execution* alone = nullptr;
    uint64_t gone = 0;
  };

  static uint64_t Hash(const KnownMap& map, const KeySets::Key* key);
  template <typename F>
  static void ForEachHash(const Execution& execution, F&& f);
  View Find(uint64_t hash) const;

  LargeTable<uint64_t, Slot> slots_;
  absl::flat_hash_map<uint64_t, Crowd> crowds_;
  uint64_t forgotten_ = 0;
};

}  // namespace kiln::solver
