#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kiln::solver {

// Graphs for tests, one vertex a line, inputs before consumers, the last one is the root:
//
//   base:
//   left: base key=l
//   right: base key=r content=0 sel=0:/src
//   top: left right.1 ignore
//
// `NAME: INPUT[.OUTPUT]… OPTION…`. Options (test_ops.h): key=K or keys=K,K (cache maps; default:
// the name; "random:…" as it is, others by their digest), content=I,I (inputs with content keys),
// sel=I:SELECTOR, out=N (outputs, default 1), value=V (what the result contains; default: made of
// the key and the inputs), locks=L,L, noslot, cheap; early (it runs once its build is begun); mine
// (each session has its own: it is key and value); ignore (ignore_cache) is not part of the digest.
//
// The result is a serialized pb.Definition.
std::string DefinitionOf(absl::string_view text);

// One parsed line.
struct VertexText {
  std::string name;
  std::vector<std::pair<std::string, int>> inputs;
  std::vector<std::string> options;
};
std::vector<VertexText> ParseGraph(absl::string_view text);

}  // namespace kiln::solver
