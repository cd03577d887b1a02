#include "solver/internal/execution_table.h"

#include <algorithm>

#include "absl/hash/hash.h"
#include "solver/internal/digest_hash.h"

namespace kiln::solver {
namespace {

bool SameOp(const CacheMaps& a, const CacheMaps& b) {
  for (const auto& map : a)
    for (const auto& other : b)
      if (map == other || map->SameOp(*other)) return true;
  return false;
}

// Ops of one digest have the same selectors, but nothing makes sure of that.
bool SameKey(const KnownMap& map, const KeySets::Key& a, const KnownMap& other,
             const KeySets::Key& b) {
  if (a.id != b.id) return false;
  static const std::string* const none = new std::string();
  const std::string& mine = a.selected ? map.input(a.input).selector : *none;
  const std::string& its = b.selected ? other.input(b.input).selector : *none;
  return mine == its;
}

bool Equal(const CacheMaps& maps, const KeySets& keys, const Execution& x) {
  if (x.keys.inputs() != keys.inputs() || !SameOp(maps, x.maps)) return false;
  const absl::Span<const KeySets::Key> all = x.keys.all();
  auto mine = keys.all().begin();
  for (uint32_t input = 0, at = 0; input < keys.inputs(); ++input) {
    const uint32_t from = at;
    while (at < all.size() && all[at].input == input) ++at;
    bool common = false;
    for (; mine != keys.all().end() && mine->input == input; ++mine)
      for (uint32_t i = from; i < at && !common; ++i)
        common = SameKey(*maps[0], *mine, *x.maps[0], all[i]);
    if (!common) return false;
  }
  return true;
}

}  // namespace

uint64_t ExecutionTable::View::saved() const {
  if (crowd != nullptr) return crowd->saved;
  return alone != nullptr ? alone->save_clock : gone;
}

// Eight bytes of each digest are enough: equal hashes are compared.
uint64_t ExecutionTable::Hash(const KnownMap& map, const KeySets::Key* key) {
  if (key == nullptr) return absl::HashOf(map.prefix());
  const uint32_t input = key->input;
  const uint64_t id = DigestHash::Prefix(key->id);
  if (key->selected && !map.input(input).selector.empty())
    return absl::HashOf(map.prefix(), id, input, map.input(input).selector);
  return absl::HashOf(map.prefix(), id, input);
}

template <typename F>
void ExecutionTable::ForEachHash(const Execution& execution, F&& f) {
  for (const auto& map : execution.maps) {
    if (execution.keys.inputs() == 0) f(Hash(*map, nullptr));
    for (const KeySets::Key& key : execution.keys.all()) f(Hash(*map, &key));
  }
}

ExecutionTable::View ExecutionTable::Find(uint64_t hash) const {
  const auto it = slots_.find(hash);
  if (it == slots_.end()) {
    slots_.prefetch(hash);  // whoever does not find an execution soon adds one
    return {};
  }
  if (it->second.is_crowd()) return {&crowds_.at(hash)};
  return {nullptr, it->second.alone(), it->second.gone()};
}

void ExecutionTable::Prefetch(const CacheMaps& maps, const KeySets& keys) const {
  const absl::Span<const KeySets::Key> some = keys.all().subspan(0, kPrefetchAhead);
  if (some.size() < 2) return;  // the first question is the only one
  for (const KeySets::Key& key : some) slots_.prefetch(Hash(*maps[0], &key));
}

void ExecutionTable::Add(Execution* execution) {
  ForEachHash(*execution, [&](uint64_t hash) {
    const auto [it, is_new] = slots_.try_emplace(hash, Slot::Alone(execution));
    Slot& slot = it->second;
    if (is_new) return execution->table.push_back({hash, 0});
    if (slot.alone() == execution) return;  // a key given twice
    Crowd& crowd = crowds_[hash];
    if (Execution* const first = slot.alone()) {
      crowd.executions.push_back(first);
      crowd.saved = first->save_clock;
    } else if (!slot.is_crowd()) {
      crowd.saved = crowd.saved_gone = slot.gone();
    }
    slot = Slot();
    if (!crowd.executions.empty() && crowd.executions.back() == execution) return;
    execution->table.push_back({hash, static_cast<uint32_t>(crowd.executions.size())});
    crowd.executions.push_back(execution);
  });
}

void ExecutionTable::Remove(Execution* execution) {
  for (size_t i = 0; i < execution->table.size(); ++i) {
    const auto [hash, place] = execution->table[i];
    const auto it = slots_.find(hash);
    if (!it->second.is_crowd()) {
      if (execution->save_clock > 0) {
        it->second = Slot::Gone(execution->save_clock);
      } else {
        slots_.erase(it);
      }
      continue;
    }
    Crowd& crowd = crowds_.at(hash);
    Execution* moved = crowd.executions[place] = crowd.executions.back();
    crowd.executions.pop_back();
    if (moved != execution) {
      size_t at = i;  // most have their keys in the same order
      if (at >= moved->table.size() || moved->table[at].hash != hash) at = 0;
      while (moved->table[at].hash != hash) ++at;
      moved->table[at].place = place;
    }
    crowd.saved_gone = std::max(crowd.saved_gone, execution->save_clock);
    if (!crowd.executions.empty()) continue;
    if (crowd.saved_gone > 0) {
      it->second = Slot::Gone(crowd.saved_gone);
    } else {
      slots_.erase(it);
    }
    crowds_.erase(hash);
  }
  execution->table.clear();
}

void ExecutionTable::Saved(const Execution& execution) {
  if (crowds_.empty()) return;  // whoever is alone knows it
  for (const auto& entry : execution.table) {
    const auto crowd = crowds_.find(entry.hash);
    if (crowd != crowds_.end()) crowd->second.saved = execution.save_clock;
  }
}

Execution* ExecutionTable::Find(const CacheMaps& maps, const KeySets& keys,
                                absl::FunctionRef<bool(const Execution&)> accept) const {
  const auto pick = [&](const View& from) -> Execution* {
    for (Execution* x : from.executions())
      if (Equal(maps, keys, *x) && accept(*x)) return x;
    return nullptr;
  };
  for (const auto& map : maps) {
    if (keys.inputs() == 0) {
      if (Execution* x = pick(Find(Hash(*map, nullptr)))) return x;
      continue;
    }
    // Ops like merge have one digest for all their uses, so a common base alone may be shared by
    // very many: go by the input that fewest executions have in common with this one.
    const absl::Span<const KeySets::Key> all = keys.all();
    size_t fewest = SIZE_MAX;
    absl::Span<const KeySets::Key> best;
    for (size_t from = 0; from < all.size() && fewest > 0;) {
      size_t count = 0, to = from;
      for (; to < all.size() && all[to].input == all[from].input; ++to)
        count += Find(Hash(*map, &all[to])).executions().size();
      if (count < fewest) {
        fewest = count;
        best = all.subspan(from, to - from);
      }
      from = to;
    }
    if (fewest == 0) continue;
    for (const KeySets::Key& key : best)
      if (Execution* x = pick(Find(Hash(*map, &key)))) return x;
  }
  return nullptr;
}

bool ExecutionTable::SavedSince(const CacheMaps& maps, const KeySets& keys, uint64_t clock) const {
  if (clock < forgotten_) return true;
  const auto saved = [&](uint64_t hash) { return Find(hash).saved_gone() > clock; };
  for (const auto& map : maps) {
    if (keys.inputs() == 0 && saved(Hash(*map, nullptr))) return true;
    uint32_t inputs = 0;  // the first ones, each with such a key
    for (const KeySets::Key& key : keys.all()) {
      if (key.input > inputs) break;
      if (key.input == inputs && saved(Hash(*map, &key))) ++inputs;
    }
    if (inputs > 0 && inputs == keys.inputs()) return true;
  }
  return false;
}

bool ExecutionTable::KeySavedSince(const KnownMap& map, const KeySets::Key& key,
                                   uint64_t clock) const {
  return clock < forgotten_ || Find(Hash(map, &key)).saved() > clock;
}

void ExecutionTable::ForgetSaves(uint64_t clock) {
  for (auto it = slots_.begin(); it != slots_.end();) {
    if (it->second.gone() > 0) {
      slots_.erase(it++);
    } else {
      ++it;
    }
  }
  for (auto& [hash, crowd] : crowds_) crowd.saved_gone = 0;
  if (slots_.empty()) slots_.clear();  // gives the memory of a large graph back
  if (crowds_.empty()) crowds_.clear();
  forgotten_ = clock;
}

}  // namespace kiln::solver
