#pragma once

#include "solver/internal/event.h"
#include "solver/internal/session_results.h"
#include "solver/op.h"
#include "store/cache_index.h"

namespace kiln::solver {

// Does what the engine's actions ask for. Each function may block and gives the event that answers
// the action. Thread-safe.
class Runner {
 public:
  Runner(store::CacheIndex* index, ResultLoader* loader, OpResolver* resolver)
      : index_(*index), loader_(*loader), resolver_(*resolver) {}

  event::CacheMapDone Run(const action::MakeCacheMap& action, OpContext& context) const;
  event::ContentDone Run(const action::ComputeContent& action, OpContext& context) const;
  event::ExecuteDone Run(const action::Execute& action, OpContext& context) const;
  event::NestedLoaded Run(const action::LoadNested& action) const;
  event::QueryDone Run(const action::Query& action) const;
  event::MatchDone Run(const action::Match& action) const;
  event::RecordsDone Run(const action::FindRecords& action) const;
  event::LoadDone Run(const action::Load& action) const;
  event::SaveDone Run(const action::Save& action);
  void Run(const action::Link& action) const;

  OpResolver& resolver() const { return resolver_; }

 private:
  store::CacheIndex& index_;
  SessionResults session_results_;
  ResultLoader& loader_;
  OpResolver& resolver_;
};

}  // namespace kiln::solver
