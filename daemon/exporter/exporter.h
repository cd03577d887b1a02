#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/session/session.h"
#include "solver/op.h"
#include "store/base/cancel.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// A build's result, evaluated: what exporters take.
struct ExportSource {
  // One platform of metadata "refs.platforms", in its order.
  struct Platform {
    std::string id;    // key of `refs`, suffix of metadata keys
    std::string json;  // the OCI platform object
  };

  bool is_map = false;  // several refs by platform id; else only `ref` counts
  store::RefPtr ref;    // nullptr: the empty tree
  std::map<std::string, store::RefPtr> refs;
  std::vector<Platform> platforms;
  // As the frontend returned it, "refs.platforms" included; values are any bytes.
  std::map<std::string, std::string> metadata;

  // The tree of a platform: from `refs` for a map, else `ref`.
  absl::StatusOr<store::RefPtr> FindRef(absl::string_view platform_id) const;
};

// What an exporter may use while it runs.
struct ExportContext {
  int index = 0;           // position in SolveRequest.Exporters: the exporter id on the session
  std::string session_id;  // the client's session; may be empty
  SessionFinder* sessions = nullptr;
  solver::ProgressSink* progress = nullptr;
  CancelToken cancel;
};

// One configured export of one build. Its Export runs once.
class Exporter {
 public:
  virtual ~Exporter() = default;
  // Name of its step in the status stream: "exporting to client directory".
  virtual const std::string& name() const = 0;
  // Blocks. The answer goes into SolveResponse.ExporterResponse.
  virtual absl::StatusOr<std::map<std::string, std::string>> Export(
      const ExportSource& source, const ExportContext& context) = 0;
};

// A kind of exporter. Checks every attribute before anything is built: errors name the attribute.
using ExporterFactory = std::function<absl::StatusOr<std::unique_ptr<Exporter>>(
    const std::map<std::string, std::string>& attrs)>;

// The exporters this daemon has, by type ("local", "tar"). Filled by the wiring list, then
// constant.
class ExporterTable {
 public:
  void Add(std::string type, ExporterFactory factory);
  // `exporter "x" could not be found` for an unknown type; kUnimplemented for those of BuildKit
  // that are not built.
  absl::StatusOr<std::unique_ptr<Exporter>> Create(
      absl::string_view type, const std::map<std::string, std::string>& attrs) const;

 private:
  std::map<std::string, ExporterFactory, std::less<>> factories_;
};

}  // namespace kiln::daemon
