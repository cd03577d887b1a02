#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/attest/attestation.h"
#include "daemon/session/session.h"
#include "proto/digest.h"
#include "solver/op.h"
#include "store/base/cancel.h"
#include "store/layer/descriptor.h"
#include "store/layer/layer_store.h"
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
  // By platform id; under "" those of a result without platforms. In the order of the frontend.
  std::map<std::string, std::vector<Attestation>> attestations;

  // The tree of a platform: from `refs` for a map, else `ref`.
  absl::StatusOr<store::RefPtr> FindRef(absl::string_view platform_id) const;
  // What is attested of a platform; of a result that is no map also what names none. nullptr:
  // nothing.
  const std::vector<Attestation>* FindAttestations(const std::string& platform_id) const;
};

// What an exporter may use while it runs.
struct ExportContext {
  int index = 0;           // position in SolveRequest.Exporters: the exporter id on the session
  std::string session_id;  // the client's session; may be empty
  SessionFinder* sessions = nullptr;
  solver::ProgressSink* progress = nullptr;
  CancelToken cancel;
  int compatibility_version = 30;  // SolveRequest.CompatibilityVersion: 10, 20 or 30
  // The cache records to put into the image of a platform, given the diff ids of its layers; "":
  // none. Null without a cache export of type inline.
  std::function<absl::StatusOr<std::string>(const std::string& platform_id,
                                            const std::vector<Digest>& diff_ids)>
      inline_cache;
};

// What an exporter has made.
struct ExportAnswer {
  std::map<std::string, std::string> response;  // goes into SolveResponse.ExporterResponse
  // The root of what it wrote, for exporters of images. Readable through the content service for as
  // long as `hold` lives.
  std::optional<store::Descriptor> root;
  std::shared_ptr<void> hold;
  // What is left to do when every exporter of the build is done (pushing); may be null. Runs once,
  // beside those of others, as a step of the exporter's name; the context's sink is that step's.
  std::function<absl::Status(const ExportContext& context)> finalize;
};

// One configured export of one build. Its Export runs once; exporters of a build run in parallel.
class Exporter {
 public:
  virtual ~Exporter() = default;
  // Name of its step in the status stream: "exporting to client directory".
  virtual const std::string& name() const = 0;
  // How its image layers are to be compressed, for those who share them with it; nullptr: it has
  // none.
  virtual const store::LayerFormat* layer_format() const { return nullptr; }
  // Blocks.
  virtual absl::StatusOr<ExportAnswer> Export(const ExportSource& source,
                                              const ExportContext& context) = 0;
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
