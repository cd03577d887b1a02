#include "solver/internal/runner.h"

#include <chrono>
#include <utility>

#include "absl/time/time.h"
#include "store/base/status_macros.h"

namespace kiln::solver {
namespace {

// A null result, the empty tree, as a record; it can always be loaded.
constexpr absl::string_view kEmptyTreeId = "::";

}  // namespace

event::CacheMapDone Runner::Run(const action::MakeCacheMap& action, OpContext& context) const {
  event::CacheMapDone done{action.vertex, action.op, absl::InternalError("no cache map"), {}};
  if (done.op == nullptr) {
    absl::StatusOr<std::shared_ptr<Op>> op = resolver_.Resolve(action.op_bytes, *action.info);
    if (!op.ok()) {
      done.map = std::move(op).status();
      return done;
    }
    done.op = *std::move(op);
  }
  done.map = done.op->MakeCacheMap(context, action.index);
  if (done.map.ok() && done.op->TakesSlot()) done.mean = index_.MeanDuration(done.map->op_digest);
  return done;
}

event::ContentDone Runner::Run(const action::ComputeContent& action, OpContext& context) const {
  return {action.vertex, action.input,
          action.op->ContentDigest(context, static_cast<int>(action.input), action.result)};
}

event::ExecuteDone Runner::Run(const action::Execute& action, OpContext& context) const {
  // Not by the system's clock, which may be set meanwhile.
  const auto start = std::chrono::steady_clock::now();
  absl::StatusOr<ExecResult> result = action.op->Execute(context, action.inputs);
  return {action.execution, std::move(result),
          absl::FromChrono(std::chrono::steady_clock::now() - start)};
}

event::NestedLoaded Runner::Run(const action::LoadNested& action) const {
  absl::StatusOr<LoadedGraph> graph = LoadDefinition(action.definition, action.entitlements);
  if (!graph.ok()) return {action.execution, std::move(graph).status()};
  ResolveOps(resolver_, &*graph);
  return {action.execution, std::make_shared<LoadedGraph>(*std::move(graph))};
}

// A look-up that fails finds nothing: the build goes on without the cache.
event::QueryDone Runner::Run(const action::Query& action) const {
  event::QueryDone done{action.edge, action.epoch, action.input, {}, {}};
  const int input = static_cast<int>(action.input);
  const auto ask = [&](absl::Span<const store::InputKey> keys) {
    if (keys.empty()) return;
    const absl::StatusOr<std::vector<store::KeyId>> targets = index_.Query(keys, input, action.op);
    if (!targets.ok()) return;
    done.targets.insert(done.targets.end(), targets->begin(), targets->end());
    done.cut = done.cut || targets->size() > store::CacheIndex::kMaxCarryOver;
  };
  ask(action.keys);
  for (const store::InputKey& key : action.alone) ask({&key, 1});
  if (action.imports != nullptr) {
    std::vector<store::InputKey> keys = action.keys;
    keys.insert(keys.end(), action.alone.begin(), action.alone.end());
    done.imported = action.imports->Query(keys, input, action.op);
  }
  return done;
}

event::MatchDone Runner::Run(const action::Match& action) const {
  absl::StatusOr<std::vector<store::KeyId>> targets = index_.Match(action.keys, action.op);
  event::MatchDone done{action.edge, action.epoch, {}};
  if (targets.ok()) done.targets = *std::move(targets);
  return done;
}

event::RecordsDone Runner::Run(const action::FindRecords& action) const {
  event::RecordsDone done{action.edge, action.epoch, {}, {}};
  if (action.of_session) {
    for (const store::KeyId& key : action.keys) {
      std::optional<store::CacheRecord> record = session_results_.Find(key);
      if (record.has_value() &&
          (record->result_id == kEmptyTreeId || loader_.Exists(record->result_id)))
        done.records.push_back(*std::move(record));
    }
    return done;
  }
  for (const store::KeyId& key : action.keys) {
    if (action.imports != nullptr)
      for (store::CacheRecord& record : action.imports->Records(key))
        done.imported.push_back({key, std::move(record)});
    absl::StatusOr<std::vector<store::CacheRecord>> records = index_.Records(key);
    if (!records.ok()) continue;
    for (store::CacheRecord& record : *records) {
      if (record.result_id == kEmptyTreeId || loader_.Exists(record.result_id)) {
        done.records.push_back(std::move(record));
      } else {
        index_.Release(record.result_id).IgnoreError();  // found dead again next time
      }
    }
  }
  return done;
}

event::LoadDone Runner::Run(const action::Load& action) const {
  event::LoadDone done{action.edge, action.epoch, action.imported_key, ResultPtr()};
  if (action.imported_key.has_value()) {
    done.result = action.imports->Load(action.result_id);
  } else if (action.result_id != kEmptyTreeId) {
    done.result = loader_.Load(action.result_id);
  }
  return done;
}

event::SaveDone Runner::Run(const action::Save& action) {
  const auto save = [&]() -> absl::StatusOr<std::vector<store::KeyId>> {
    std::string id(kEmptyTreeId);
    if (action.result != nullptr) {
      KILN_RETURN_IF_ERROR(loader_.Retain(action.result));
      id = action.result->Id();
    }
    std::vector<store::KeyId> nodes;
    nodes.reserve(action.maps->size());
    for (const auto& map : *action.maps) {
      const store::OpOutput op{map->op_digest(), static_cast<int>(action.output)};
      store::KeyId node;
      if (map->random() && action.keys->inputs() == 0) {
        node = store::CacheIndex::RootKey(op);
        session_results_.Save(node, {id, action.now});
      } else {
        KILN_ASSIGN_OR_RETURN(node, index_.Save(op, action.keys->Expand(*map), {id, action.now}));
      }
      nodes.push_back(node);
    }
    if (action.took > absl::ZeroDuration() && !action.maps->front()->random())
      index_.RecordDuration(action.maps->front()->op_digest(), action.took);
    return nodes;
  };
  return {action.execution, action.output, save()};
}

void Runner::Run(const action::Link& action) const {
  // A link that is not written costs a later look-up, nothing else.
  index_
      .Link({action.map->op_digest(), action.output}, action.keys.Expand(*action.map),
            action.target)
      .IgnoreError();
}

}  // namespace kiln::solver
