#include <algorithm>
#include <utility>

#include "solver/internal/engine.h"
#include "store/base/check.h"

namespace kiln::solver {

using store::InputKey;
using store::KeyId;

namespace {

Finds& FindsOf(Search& search) {
  if (search.finds == nullptr) search.finds = std::make_unique<Finds>();
  return *search.finds;
}

bool HasRecords(const Search& search) {
  const Finds* finds = search.finds.get();
  return finds != nullptr && (!finds->records.empty() || !finds->imported.empty());
}

}  // namespace

void Engine::Evaluate(Edge* edge) {
  if (edge->state == EdgeState::kComplete || edge->state == EdgeState::kFailed) return;
  if (edge->level == Level::kNone) return Suspend(edge);
  Vertex* vertex = edge->vertex;
  if (!vertex->error.ok()) return Fail(edge, vertex->error);
  if (edge->search == nullptr) StartSearch(edge);
  Search& search = *edge->search;
  for (uint32_t i : search.changed) {
    const Edge* input = search.inputs[i].edge;
    if (input->state == EdgeState::kFailed) return Fail(edge, input->error);
  }
  if (!search.map_known) {
    if (vertex->maps.empty()) return RequestCacheMap(vertex);
    OnMapKnown(edge);
  }
  if (search.level_seen != edge->level) OnLevelChanged(edge);
  if (vertex->inputs.empty()) return EvaluateSource(edge);
  for (size_t n = 0; n < search.changed.size(); ++n) {  // may grow meanwhile
    const uint32_t i = search.changed[n];
    search.inputs[i].changed = false;
    AdvanceInput(edge, i);
  }
  search.changed.clear();
  Decide(edge);
}

void Engine::StartSearch(Edge* edge) {
  Vertex* vertex = edge->vertex;
  edge->state = EdgeState::kSearching;
  edge->search = searches_.New();
  Search& search = *edge->search;
  search.looked_up = clock_;
  search.level_seen = edge->level;
  ++vertex->active_edges;
  const uint32_t count = static_cast<uint32_t>(vertex->inputs.size());
  search.inputs.resize(count);
  search.not_fast = search.unsettled = search.incomplete = search.bare = count;
  for (uint32_t i = 0; i < count; ++i) {
    search.inputs[i].edge = EdgeOf(vertex->inputs[i].vertex, vertex->inputs[i].output);
    MarkChanged(edge, i);
  }
  // What ignores the cache needs no keys, only results, and those only if it is to run. The input
  // that is wanted last is looked at first.
  if (vertex->ignore_cache) return;
  for (uint32_t i = count; i-- > 0;) SetWant(edge, i, Level::kFast);
}

void Engine::OnMapKnown(Edge* edge) {
  Search& search = *edge->search;
  search.map_known = true;
  if (edge->vertex->inputs.empty()) return;
  const KnownMap& map = *edge->vertex->maps[0];
  for (size_t i = 0; i < search.inputs.size(); ++i) {
    search.inputs[i].by_content = map.input(i).content_key;
    if (map.input(i).content_key) ++search.content_missing;
  }
}

// A consumer came or went. When less is wanted than before, work that is not needed any more is
// given up; when more is, what was given up is taken up again.
void Engine::OnLevelChanged(Edge* edge) {
  Search& search = *edge->search;
  search.level_seen = edge->level;
  MarkAllChanged(edge);
  if (edge->level < Level::kComplete) {
    if (edge->state == EdgeState::kExecuting) StopWaiting(edge);
    if (edge->state == EdgeState::kPreparing) edge->state = EdgeState::kSearching;
  }
  if (edge->state != EdgeState::kSearching || edge->vertex->ignore_cache) {
    for (uint32_t i = 0; i < search.inputs.size(); ++i) SetWant(edge, i, Level::kNone);
  } else {
    WantByStage(edge);
  }
}

void Engine::WantByStage(Edge* edge) {
  Search& search = *edge->search;
  for (uint32_t i = 0; i < search.inputs.size(); ++i) {
    const InputStage stage = search.inputs[i].stage;
    Level want = Level::kFast;
    if (edge->level >= Level::kSlow && stage == InputStage::kSlow) want = Level::kSlow;
    if (edge->level >= Level::kSlow && stage == InputStage::kContent) want = Level::kComplete;
    SetWant(edge, i, want);
  }
}

// An op without inputs has a key of its own for each cache map. Maps after the first are asked for
// only when the ones before gave no hit.
void Engine::EvaluateSource(Edge* edge) {
  Vertex* vertex = edge->vertex;
  Search& search = *edge->search;
  search.changed.clear();
  const bool probe = !vertex->ignore_cache;
  for (; search.maps_keyed < vertex->maps.size(); ++search.maps_keyed) {
    const KnownMap& map = *vertex->maps[search.maps_keyed];
    AddKey(edge, {store::CacheIndex::RootKey({map.op_digest(), edge->output}), 0, probe});
  }
  if (!edge->fast_done) {
    edge->fast_done = true;
    edge->slow_done = vertex->maps.back()->final();
    Notify(edge);
  }
  if (edge->state == EdgeState::kLoading || edge->state == EdgeState::kExecuting) return;
  if (edge->level < Level::kSlow) return;
  if (vertex->execution != nullptr && edge->level == Level::kComplete) return TryExecute(edge);
  if (!probe && edge->level == Level::kSlow) {
    if (!std::exchange(edge->slow_done, true)) Notify(edge);
    return;
  }
  if (probe && edge->level == Level::kComplete) {
    std::vector<KeyId> unread;
    for (; search.maps_read < vertex->maps.size(); ++search.maps_read)
      unread.push_back(
          store::CacheIndex::RootKey({vertex->maps[search.maps_read]->op_digest(), edge->output}));
    if (ReadRecords(edge, std::move(unread))) return;
    if (HasRecords(search)) return StartLoad(edge);
    if (search.pending > 0) return;
  }
  if (!vertex->maps.back()->final()) return RequestCacheMap(vertex);
  if (!edge->slow_done) {
    edge->slow_done = true;
    Notify(edge);
  }
  if (edge->level < Level::kComplete || search.pending > 0) return;
  edge->state = EdgeState::kPreparing;
  TryExecute(edge);
}

void Engine::AdvanceInput(Edge* edge, uint32_t input) {
  InputSearch& in = edge->search->inputs[input];
  if (in.edge->state == EdgeState::kComplete && !in.complete) {
    in.complete = true;
    --edge->search->incomplete;
  }
  AdvanceContent(edge, input);
  if (edge->vertex->ignore_cache || edge->state == EdgeState::kLoading) return;
  LookUp(edge, input);
  AdvanceStage(edge, input);
}

// The content key of an input is computed when it may decide, and before every execution, so that
// the result can later be found by it.
void Engine::AdvanceContent(Edge* edge, uint32_t input) {
  Vertex* vertex = edge->vertex;
  InputSearch& in = edge->search->inputs[input];
  if (in.content_over || !in.by_content) return;
  const bool wanted = in.stage >= InputStage::kContent || edge->state == EdgeState::kPreparing;
  if (!wanted || !in.complete) return;
  if (vertex->content.empty()) vertex->content.resize(vertex->inputs.size());
  if (vertex->content[input].state != CallState::kDone)
    return RequestContent(vertex, input, in.edge->result);
  if (vertex->ignore_cache || (in.content_queried && !in.querying)) {
    in.content_over = true;
    --edge->search->content_missing;
  }
}

// Whether the key may lead somewhere in the index from that input.
bool Engine::MayFind(const InputSearch& in, const EdgeKey& key) {
  return key.probe && !(key.random && in.by_content);
}

bool Engine::MustLookUp(const Edge* edge, uint32_t input, const EdgeKey& key) const {
  if (!MayFind(edge->search->inputs[input], key)) return false;
  if (key.fresh == 0) return true;
  return table_.KeySavedSince(*edge->vertex->maps[0], {key.id, input, true}, key.fresh);
}

// Asks the index where the keys of an input lead to. All of them are given each time, so that the
// index links those that it did not know.
void Engine::LookUp(Edge* edge, uint32_t input) {
  Vertex* vertex = edge->vertex;
  Search& search = *edge->search;
  InputSearch& in = search.inputs[input];
  if (in.querying) return;
  const bool has_content =
      !vertex->content.empty() && vertex->content[input].state == CallState::kDone;
  bool due = has_content && !in.content_queried;
  for (; in.keys_seen < in.edge->keys.size(); ++in.keys_seen)
    due = due || MustLookUp(edge, input, in.edge->keys[in.keys_seen]);
  if (!due) return;
  const KnownMap& map = *vertex->maps[0];
  action::Query query{edge,           edge->epoch, input, {}, {}, {map.op_digest(), edge->output},
                      vertex->imports};
  for (const EdgeKey& key : in.edge->keys) {
    if (!MayFind(in, key)) continue;
    auto& keys = in.edge->IsOfResult(key) ? query.keys : query.alone;
    keys.push_back({key.id, map.input(input).selector});
  }
  if (has_content) query.keys.push_back({vertex->content[input].key, ""});
  in.content_queried = has_content;
  in.querying = true;
  ++search.pending;
  ++vertex->outstanding;
  Emit(std::move(query));
}

void Engine::On(event::QueryDone& event) {
  Edge* edge = event.edge;
  --edge->vertex->outstanding;
  if (edge->epoch != event.epoch) return Doom(edge->vertex);
  Search& search = *edge->search;
  InputSearch& in = search.inputs[event.input];
  in.querying = false;
  --search.pending;
  const auto add = [&](const KeyId& target, bool imported) {
    Finds& finds = FindsOf(search);
    finds.candidates.resize(search.inputs.size());
    std::vector<KeyId>& candidates = finds.candidates[event.input];
    if (std::find(candidates.begin(), candidates.end(), target) != candidates.end()) return;
    candidates.push_back(target);
    if (std::exchange(in.bare, false)) --search.bare;
    if (search.inputs.size() == 1 || ++finds.hits[target] == search.inputs.size())
      AddTarget(edge, {target, 0, true, imported});
  };
  for (const KeyId& target : event.targets) add(target, false);
  for (const KeyId& target : event.imported) add(target, true);
  if (event.cut && !std::exchange(in.common, true)) ++search.common;
  search.match_due = search.common > 0;
  MarkChanged(edge, event.input);
}

// The target is one of every input.
void Engine::AddTarget(Edge* edge, const EdgeKey& key) {
  FindsOf(*edge->search).unread.push_back(key.id);
  AddKey(edge, key);
}

// The keys of some inputs, such as a base image under an op with one digest for all its uses, lead
// to more targets than anybody wants to be given. Which of them the other inputs lead to as well,
// the index finds. True when it was asked.
bool Engine::StartMatch(Edge* edge) {
  Search& search = *edge->search;
  if (!search.match_due || search.bare > 0 || search.pending > 0) return false;
  search.match_due = false;
  Vertex* vertex = edge->vertex;
  const KnownMap& map = *vertex->maps[0];
  const uint32_t exact = static_cast<uint32_t>(search.inputs.size()) - search.common;
  bool checked = exact == 0;
  action::Match match{edge, edge->epoch, {}, {map.op_digest(), edge->output}};
  match.keys.reserve(search.inputs.size());
  for (uint32_t i = 0; i < search.inputs.size(); ++i) {
    const InputSearch& in = search.inputs[i];
    if (!checked && !in.common) {
      // What the others share is known: without it there is no match.
      checked = true;
      const auto shared = [&](const KeyId& target) {
        return search.finds->hits.at(target) >= exact;
      };
      const std::vector<KeyId>& candidates = search.finds->candidates[i];
      if (std::none_of(candidates.begin(), candidates.end(), shared)) return false;
    }
    // As in LookUp; those that are asked alone must not be tied to others.
    std::vector<InputKey>& keys = match.keys.emplace_back();
    for (const EdgeKey& key : in.edge->keys)
      if (MayFind(in, key) && in.edge->IsOfResult(key))
        keys.push_back({key.id, map.input(i).selector});
    if (in.content_queried) keys.push_back({vertex->content[i].key, ""});
    if (keys.empty()) return false;
  }
  search.matching = true;
  ++search.pending;
  ++vertex->outstanding;
  Emit(std::move(match));
  return true;
}

void Engine::On(event::MatchDone& event) {
  Edge* edge = event.edge;
  --edge->vertex->outstanding;
  if (edge->epoch != event.epoch) return Doom(edge->vertex);
  Search& search = *edge->search;
  search.matching = false;
  --search.pending;
  const uint32_t all = static_cast<uint32_t>(search.inputs.size());
  for (const KeyId& target : event.targets) {
    uint32_t& hits = FindsOf(search).hits[target];
    if (hits >= all) continue;
    hits = all;
    AddTarget(edge, {target});
  }
  Enqueue(edge);
}

// Goes on from one kind of key to the next while the input has no candidate; with candidates only
// once it is clear that they do not suffice. What runs nothing is done at any level, so that a
// graph of which nothing is cached finds that out in one pass.
void Engine::AdvanceStage(Edge* edge, uint32_t input) {
  Search& search = *edge->search;
  InputSearch& in = search.inputs[input];
  const auto settle = [&](bool settled) {
    if (in.settled == settled) return;
    in.settled = settled;
    search.unsettled += settled ? -1 : 1;
  };
  for (;;) {
    if (in.querying) return;
    const bool enough = !in.bare && !search.widened;
    switch (in.stage) {
      case InputStage::kFast:
        if (!in.edge->fast_done) return;
        if (!in.fast_over) {
          in.fast_over = true;
          --search.not_fast;
        }
        if (enough) return settle(true);
        if (edge->level < Level::kSlow && !in.edge->slow_done) return;
        settle(false);
        in.stage = InputStage::kSlow;
        if (edge->level >= Level::kSlow) RaiseWant(edge, input, Level::kSlow);
        continue;
      case InputStage::kSlow:
        if (!in.edge->slow_done) return;
        if (enough) return settle(true);
        if (!in.by_content) {
          settle(false);
          in.stage = InputStage::kDone;
          continue;
        }
        if (edge->level < Level::kSlow && !in.complete) return;
        settle(false);
        in.stage = InputStage::kContent;
        if (edge->level >= Level::kSlow) RaiseWant(edge, input, Level::kComplete);
        AdvanceContent(edge, input);
        LookUp(edge, input);
        continue;
      case InputStage::kContent:
        if (!in.content_over) return;
        in.stage = InputStage::kDone;
        continue;
      case InputStage::kDone:
        settle(true);
        search.dead = search.dead || in.bare;
        return;
    }
  }
}

// What to do with what is known of all inputs together.
void Engine::Decide(Edge* edge) {
  Search& search = *edge->search;
  const bool look = !edge->vertex->ignore_cache;
  const auto slow_done = [&] {
    if (edge->slow_done) return;
    edge->fast_done = edge->slow_done = true;
    Notify(edge);
  };
  const bool busy = edge->state == EdgeState::kLoading || edge->state == EdgeState::kExecuting;
  if (look && !busy && StartMatch(edge)) return;
  if (!edge->fast_done && (!look || (search.not_fast == 0 && !search.matching))) {
    edge->fast_done = true;
    Notify(edge);
  }
  if (busy) return;
  if (edge->level < Level::kSlow) {
    if (search.dead && search.pending == 0) slow_done();
    return;
  }
  // Another output of the vertex has had it executed already.
  if (edge->vertex->execution != nullptr && edge->level == Level::kComplete)
    return TryExecute(edge);
  if (search.finds != nullptr && ReadRecords(edge, std::exchange(search.finds->unread, {}))) return;
  if (HasRecords(search)) {
    slow_done();
    if (edge->level == Level::kComplete) StartLoad(edge);
    return;
  }
  if (search.pending > 0) return;
  if (edge->state == EdgeState::kSearching) {
    if (look && !search.dead) {
      if (search.unsettled > 0) return;
      if (!search.widened) {
        search.widened = true;
        return MarkAllChanged(edge);
      }
    }
    slow_done();
    if (edge->level == Level::kComplete) Prepare(edge);
    return;
  }
  if (search.incomplete == 0 && search.content_missing == 0) TryExecute(edge);
}

// Nothing is cached: everything that an execution needs is asked for at once.
void Engine::Prepare(Edge* edge) {
  edge->state = EdgeState::kPreparing;
  const uint32_t count = static_cast<uint32_t>(edge->search->inputs.size());
  for (uint32_t i = count; i-- > 0;) RaiseWant(edge, i, Level::kComplete);
  MarkAllChanged(edge);
}

// True when it asked for the records of keys.
bool Engine::ReadRecords(Edge* edge, std::vector<KeyId> keys) {
  if (keys.empty()) return false;
  ++edge->search->pending;
  ++edge->vertex->outstanding;
  // Imported keys have no records for what has no inputs.
  const Vertex* vertex = edge->vertex;
  const bool source = vertex->inputs.empty();
  const auto random = [](const auto& map) { return map->random(); };
  const bool of_session = source && std::all_of(vertex->maps.begin(), vertex->maps.end(), random);
  Emit(action::FindRecords{edge, edge->epoch, std::move(keys), source ? nullptr : vertex->imports,
                           of_session});
  return true;
}

void Engine::On(event::RecordsDone& event) {
  Edge* edge = event.edge;
  --edge->vertex->outstanding;
  if (edge->epoch != event.epoch) return Doom(edge->vertex);
  Search& search = *edge->search;
  --search.pending;
  Enqueue(edge);
  if (event.records.empty() && event.imported.empty()) return;
  Finds& finds = FindsOf(search);
  for (store::CacheRecord& record : event.records)
    if (!finds.tried.contains(record.result_id)) finds.records.push_back(std::move(record));
  std::stable_sort(finds.records.begin(), finds.records.end(),
                   [](const store::CacheRecord& a, const store::CacheRecord& b) {
                     return a.created_at < b.created_at;
                   });
  for (event::ImportedRecord& found : event.imported)
    if (!finds.tried.contains(found.record.result_id)) finds.imported.push_back(std::move(found));
  std::stable_sort(finds.imported.begin(), finds.imported.end(),
                   [](const event::ImportedRecord& a, const event::ImportedRecord& b) {
                     return a.record.created_at < b.record.created_at;
                   });
}

// Loads the newest record; imported ones come after those that are here, as they may have to be
// fetched. Inputs are not needed for that, so what was asked of them is given up.
void Engine::StartLoad(Edge* edge) {
  Search& search = *edge->search;
  Finds& finds = *search.finds;
  action::Load load{edge, edge->epoch, {}, {}, {}};
  if (!finds.records.empty()) {
    load.result_id = std::move(finds.records.back().result_id);
    finds.records.pop_back();
  } else {
    load.result_id = std::move(finds.imported.back().record.result_id);
    load.imported_key = finds.imported.back().key;
    load.imports = edge->vertex->imports;
    finds.imported.pop_back();
  }
  finds.tried.insert(load.result_id);
  edge->state = EdgeState::kLoading;
  for (uint32_t i = 0; i < search.inputs.size(); ++i) SetWant(edge, i, Level::kNone);
  ++edge->vertex->outstanding;
  Emit(std::move(load));
}

void Engine::On(event::LoadDone& event) {
  Edge* edge = event.edge;
  --edge->vertex->outstanding;
  if (edge->epoch != event.epoch) return Doom(edge->vertex);
  if (event.result.ok()) {
    ++stats_.cached;
    for (JobState* job : edge->vertex->jobs) ++job->stats.cached;
    Tell(edge->vertex, action::Mark::kCached);
    edge->result_imported = event.imported_key.has_value();
    for (EdgeKey& key : edge->keys) key.loaded = key.id == event.imported_key;
    return Complete(edge, *std::move(event.result));
  }
  // As if the record had never been there: the next one, or else on with the search.
  ++stats_.load_failures;
  edge->state = EdgeState::kSearching;
  if (!HasRecords(*edge->search)) WantByStage(edge);
  MarkAllChanged(edge);
  Enqueue(edge);
}

// Results were saved by others since this edge looked: it looks once more before it executes.
void Engine::LookUpAgain(Edge* edge) {
  Search& search = *edge->search;
  search.looked_up = clock_;
  search.maps_read = 0;
  search.bare = static_cast<uint32_t>(search.inputs.size());
  search.common = 0;
  search.match_due = false;
  if (search.finds != nullptr) {
    search.finds->hits.clear();
    search.finds->candidates.clear();
  }
  for (InputSearch& in : search.inputs) {
    in.keys_seen = 0;
    in.content_queried = in.common = false;
    in.bare = true;
  }
  MarkAllChanged(edge);
  Enqueue(edge);
}

}  // namespace kiln::solver
