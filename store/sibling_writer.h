#pragma once

#include <memory>

#include "store/tree_writer.h"

namespace kiln::store {

// A writer of the same layer for another thread. `writer` is one of NewTreeWriter's; its recorder
// outlives both. Two of them must not work on the same names at the same time, nor may one remove
// a directory that another one has used.
std::unique_ptr<TreeWriter> SiblingOf(const TreeWriter& writer);

}  // namespace kiln::store
