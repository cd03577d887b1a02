#include "solver/internal/execution_table.h"

#include <algorithm>

#include "absl/hash/hash.h"

namespace kiln::solver {
namespace {

bool Overlap(const std::vector<store::InputKey>& a, const std::vector<store::InputKey>& b) {
  for (const store::InputKey& key : a)
    if (std::find(b.begin(), b.end(), key) != b.end()) return true;
  return false;
}

bool SameOp(absl::Span<const std::string> a, absl::Span<const std::string> b) {
  for (const std::string& digest : a)
    if (std::find(b.begin(), b.end(), digest) != b.end()) return true;
  return false;
}

bool Equal(absl::Span<const std::string> op_digests, const InputKeys& keys, const Execution& x) {
  if (x.keys->size() != keys.size() || !SameOp(op_digests, x.op_digests)) return false;
  for (size_t i = 0; i < keys.size(); ++i)
    if (!Overlap(keys[i], (*x.keys)[i])) return false;
  return true;
}

}  // namespace

uint64_t ExecutionTable::Hash(const std::string& op_digest, uint32_t input,
                              const store::InputKey* key) {
  if (key == nullptr) return absl::HashOf(op_digest);
  return absl::HashOf(op_digest, input, key->key, key->selector);
}

template <typename F>
void ExecutionTable::ForEachHash(absl::Span<const std::string> op_digests, const InputKeys& keys,
                                 F&& f) {
  for (const std::string& op_digest : op_digests) {
    if (keys.empty()) f(Hash(op_digest, 0, nullptr));
    for (uint32_t i = 0; i < keys.size(); ++i)
      for (const store::InputKey& key : keys[i]) f(Hash(op_digest, i, &key));
  }
}

void ExecutionTable::Add(Execution* execution) {
  execution->registered = true;
  ForEachHash(execution->op_digests, *execution->keys, [&](uint64_t hash) {
    auto& list = buckets_[hash].executions;
    if (std::find(list.begin(), list.end(), execution) == list.end()) list.push_back(execution);
  });
}

void ExecutionTable::Remove(Execution* execution) {
  if (!execution->registered) return;
  execution->registered = false;
  ForEachHash(execution->op_digests, *execution->keys, [&](uint64_t hash) {
    const auto it = buckets_.find(hash);
    if (it == buckets_.end()) return;
    auto& list = it->second.executions;
    list.erase(std::remove(list.begin(), list.end(), execution), list.end());
    it->second.saved = std::max(it->second.saved, execution->save_clock);
    if (list.empty() && it->second.saved == 0) buckets_.erase(it);
  });
}

Execution* ExecutionTable::Find(absl::Span<const std::string> op_digests, const InputKeys& keys,
                                absl::FunctionRef<bool(const Execution&)> accept) const {
  static const Bucket kEmpty;
  const auto bucket = [&](uint64_t hash) -> const Bucket& {
    const auto it = buckets_.find(hash);
    return it == buckets_.end() ? kEmpty : it->second;
  };
  const auto pick = [&](const Bucket& from) -> Execution* {
    for (Execution* x : from.executions)
      if (Equal(op_digests, keys, *x) && accept(*x)) return x;
    return nullptr;
  };
  for (const std::string& op_digest : op_digests) {
    if (keys.empty()) {
      if (Execution* x = pick(bucket(Hash(op_digest, 0, nullptr)))) return x;
      continue;
    }
    // Ops like merge have one digest for all their uses, so a common base alone may be shared by
    // very many: go by the input that fewest executions have in common with this one.
    size_t fewest = SIZE_MAX;
    uint32_t best = 0;
    for (uint32_t i = 0; i < keys.size() && fewest > 0; ++i) {
      size_t count = 0;
      for (const store::InputKey& key : keys[i])
        count += bucket(Hash(op_digest, i, &key)).executions.size();
      if (count < fewest) {
        fewest = count;
        best = i;
      }
    }
    if (fewest == 0) continue;
    for (const store::InputKey& key : keys[best])
      if (Execution* x = pick(bucket(Hash(op_digest, best, &key)))) return x;
  }
  return nullptr;
}

bool ExecutionTable::SavedSince(absl::Span<const std::string> op_digests, const InputKeys& keys,
                                uint64_t clock) const {
  if (clock < forgotten_) return true;
  for (const std::string& op_digest : op_digests) {
    if (keys.empty()) {
      const auto it = buckets_.find(Hash(op_digest, 0, nullptr));
      if (it != buckets_.end() && it->second.saved > clock) return true;
      continue;
    }
    bool all = true;
    for (uint32_t i = 0; i < keys.size() && all; ++i) {
      all = std::any_of(keys[i].begin(), keys[i].end(), [&](const store::InputKey& key) {
        const auto it = buckets_.find(Hash(op_digest, i, &key));
        return it != buckets_.end() && it->second.saved > clock;
      });
    }
    if (all) return true;
  }
  return false;
}

bool ExecutionTable::KeySavedSince(const std::string& op_digest, uint32_t input,
                                   const store::InputKey& key, uint64_t clock) const {
  if (clock < forgotten_) return true;
  const auto it = buckets_.find(Hash(op_digest, input, &key));
  if (it == buckets_.end()) return false;
  if (it->second.saved > clock) return true;
  return std::any_of(it->second.executions.begin(), it->second.executions.end(),
                     [&](const Execution* x) { return x->save_clock > clock; });
}

void ExecutionTable::ForgetSaves(uint64_t clock) {
  for (auto it = buckets_.begin(); it != buckets_.end();) {
    it->second.saved = 0;
    if (it->second.executions.empty()) {
      buckets_.erase(it++);
    } else {
      ++it;
    }
  }
  forgotten_ = clock;
}

}  // namespace kiln::solver
