#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/llb/definition.h"
#include "daemon/frontend/dockerfile/build_sources.h"
#include "daemon/frontend/dockerfile/image_lookup.h"
#include "daemon/frontend/dockerfile/lint.h"
#include "daemon/frontend/dockerfile/named_context.h"
#include "daemon/frontend/dockerfile/options.h"
#include "daemon/frontend/dockerfile/stage_state.h"
#include "daemon/frontend/dockerfile/syntax/document.h"
#include "daemon/frontend/dockerfile/variables.h"

namespace kiln::daemon::dockerfile {

struct CompilationRequest {
  // These outlive the compilation.
  BuildSources* sources;
  ImageLookup* images;
  const Options* options;

  std::shared_ptr<const client::llb::SourceText> text;  // the Dockerfile
  std::optional<Platform> target_platform;              // nullopt: what the build runs on
  Linter::Sink lint;                                    // null: nobody wants findings
  bool all_stages = false;                              // not only what the target needs: for lint
};

// A Dockerfile on its way to a graph for one platform (dockerfile.md 0, steps 1 to 19). One thread.
class Compilation {
 public:
  explicit Compilation(CompilationRequest request);

  // Does it all. Errors of the Dockerfile have locations. Blocks on the client.
  absl::Status Run();

  // After Run.
  const StageState& target() const { return *target_; }
  absl::StatusOr<client::llb::Definition> Marshal() const;
  const std::optional<int64_t>& epoch() const { return epoch_; }  // Unix seconds
  const client::llb::State& main_context() const { return main_context_; }
  bool reads_main_context() const { return !context_paths_->empty(); }
  // The stages that the target is made of, itself included, in the order of the file.
  std::vector<const StageState*> NeededStages() const;

 private:
  absl::Status Parse(Document* document);
  // stage_graph.cc
  absl::Status RegisterStages();
  absl::Status RegisterStage(const Stage& written, size_t index);
  absl::Status ExpandFrom(const Stage& written, StageState* stage);
  void AddStage(StageState* stage);
  absl::Status ChooseTarget();
  absl::Status LinkStages();
  absl::Status AddCommand(StageState* stage, const Instruction& instruction, StageCommand* command);
  StageState* HiddenStage(const std::string& image, const LineRange& lines,
                          const LineRange& named_at);
  StageState* FindStage(absl::string_view name);
  absl::Status CheckCycles();
  std::set<const StageState*> ReachableFrom(const StageState* target) const;
  std::vector<std::string> StageNames() const;
  // base_images.cc
  absl::Status ResolveBases();
  absl::Status ResolveBase(StageState* stage, bool reachable);
  absl::Status UseImage(StageState* stage, const Platform& platform);
  absl::Status UseContextAsStage(StageState* stage);
  absl::Status UseContextAsBase(const NamedContext& context, const Platform& platform,
                                StageState* stage);
  absl::StatusOr<bool> AddTriggers(StageState* stage);
  BuildSources::NeededPaths PathsOf(const StageState& stage) const;
  // source_epoch.cc
  absl::Status ResolveEpoch();
  absl::StatusOr<std::optional<int64_t>> EpochOf(const std::string& value);
  absl::StatusOr<std::optional<int64_t>> EpochOfStage(const Stage& stage);
  absl::StatusOr<std::optional<int64_t>> EpochOfState(const client::llb::State& state,
                                                      const std::string& log_name);

  absl::Status DispatchStages();
  void JoinHistory();
  void FinishImage();

  const CompilationRequest request_;
  const Options& options_;
  NamedContextLoader contexts_;
  std::optional<Linter> lint_;
  Document document_;
  std::map<std::string, std::string> build_args_;  // those of the options, but for the epoch
  Platform target_platform_;
  GlobalScope globals_;
  std::optional<int64_t> epoch_;

  std::deque<StageState> stages_;  // in the order of registration
  absl::flat_hash_map<std::string, StageState*> by_name_;
  StageState* target_ = nullptr;
  client::llb::State main_context_;
  std::shared_ptr<std::set<std::string>> context_paths_ = std::make_shared<std::set<std::string>>();
};

}  // namespace kiln::daemon::dockerfile
