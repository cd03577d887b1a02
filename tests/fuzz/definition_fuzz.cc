// Any bytes as a definition: an error or a graph in order, never anything else.
#include <google/protobuf/stubs/logging.h>

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "solver/definition.h"
#include "store/base/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // It would complain of each string that is not UTF-8.
  static const auto quiet = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(quiet);
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto graph = kiln::solver::LoadDefinition(bytes, {});
  if (!graph.ok()) {
    KILN_CHECK(!graph.status().message().empty());
    return 0;
  }
  if (graph->vertices.empty()) return 0;
  KILN_CHECK(graph->root < graph->vertices.size());
  for (size_t i = 0; i < graph->vertices.size(); ++i)
    for (const auto& input : graph->vertices[i].inputs) KILN_CHECK(input.vertex < i);
  return 0;
}
