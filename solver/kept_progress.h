#pragma once

#include <memory>

#include "solver/op.h"

namespace kiln::solver {

// A sink that somebody may hold beyond the call of an op that it was lent to: what an op began may
// be finished later, on behalf of another one. Always owned by shared pointers.
class KeptProgressSink : public ProgressSink,
                         public std::enable_shared_from_this<KeptProgressSink> {};

// The sink, to be held; null when it is not of that kind.
inline std::shared_ptr<ProgressSink> KeepProgress(ProgressSink& sink) {
  auto* const kept = dynamic_cast<KeptProgressSink*>(&sink);
  return kept == nullptr ? nullptr : kept->shared_from_this();
}

}  // namespace kiln::solver
