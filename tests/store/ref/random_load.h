#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "store/base/mutex.h"
#include "store/ref/local_ref_store.h"

namespace kiln::store {

// A tree as the model has it: path to content.
using ModelTree = std::map<std::string, std::string>;
std::string ShowModel(const ModelTree& tree);
// What a reader sees, in the same form. Regular files only; an error is returned as text.
std::string ShowTree(const RefPtr& ref);

// Random work on a store by any number of threads, with a small model of what must be there.
// Thread-safe.
class RandomLoad {
 public:
  // `kept` hears of every record that must survive from now on.
  using Kept = std::function<void(const std::string& id, const ModelTree& tree)>;
  RandomLoad(LocalRefStore* store, Kept kept) : store_(store), kept_(std::move(kept)) {}

  // One step with the dice of the caller. Returns what was wrong, or "".
  std::string Step(std::mt19937& dice);

  // At the end: every record of the model is there with its content, or was reported as pruned.
  std::vector<std::string> Check();

 private:
  struct Known {
    std::string id;
    ModelTree tree;
    bool prunable = false;
  };
  bool Pick(std::mt19937& dice, Known* out);
  std::string Keep(const RefPtr& ref, ModelTree tree, bool prunable);
  std::string Child(std::mt19937& dice);
  std::string Combine(std::mt19937& dice);
  std::string Mutable(std::mt19937& dice);
  std::string Look(std::mt19937& dice);
  std::string Prune(std::mt19937& dice);

  LocalRefStore* const store_;
  const Kept kept_;
  std::atomic<int> counter_{0};
  Mutex mu_;
  std::vector<Known> known_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, bool> pruned_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::store
