#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/llb/exec.h"
#include "client/llb/file_action.h"
#include "client/llb/state.h"
#include "daemon/frontend/dockerfile/git_reference.h"
#include "daemon/frontend/dockerfile/lint.h"
#include "daemon/frontend/dockerfile/options.h"
#include "daemon/frontend/dockerfile/stage_state.h"
#include "daemon/frontend/dockerfile/step_name.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"
#include "daemon/frontend/dockerfile/syntax/mount.h"
#include "store/base/pattern_matcher.h"

namespace kiln::daemon::dockerfile {

// What all stages of a compilation share. Everything it points to outlives the dispatch.
struct DispatchScope {
  const Options* options = nullptr;
  const std::map<std::string, std::string>* build_args = nullptr;
  const EnvList* globals = nullptr;
  std::shared_ptr<const client::llb::SourceText> text;
  char escape = '\\';
  Platform target_platform;
  client::llb::State main_context;
  std::optional<client::llb::ProxyEnv> proxy;
  std::optional<int64_t> epoch;  // Unix seconds
  const Linter* lint = nullptr;
  const PatternMatcher* ignored = nullptr;  // null: .dockerignore says nothing
  bool ignores_root = false;                // it says that all of the context is ignored
};

// Turns the instructions of one stage into its file system and image config (dockerfile.md 2 and
// 6.4). The stages it reads from were dispatched before. Used once, by one thread.
class StageDispatcher {
 public:
  StageDispatcher(const DispatchScope& scope, StageState* stage)
      : scope_(scope), stage_(*stage), lint_(*scope.lint) {}

  // Errors have locations.
  absl::Status Run();

 private:
  // What COPY and ADD have in common.
  struct CopyStep {
    bool is_add = false;
    const CopyPaths* paths = nullptr;
    client::llb::State from;  // where paths are read
    bool from_context = false;
    std::string chown, chmod, checksum;  // expanded
    bool link = false, parents = false;
    const std::vector<std::string>* exclude = nullptr;
    std::optional<bool> keep_git_dir, unpack;

    std::string name;            // of the step
    std::string dest;            // absolute
    client::llb::CopyInfo info;  // what all sources share
    client::llb::FileAction action;
    std::string history;
  };

  void Inherit();
  absl::Status Start();
  absl::Status Apply(const StageCommand& command);
  void Finish();

  absl::Status Do(const Arg& arg);
  absl::Status Do(const Env& env);
  absl::Status Do(const Label& label);
  absl::Status Do(const dockerfile::Run& run);
  absl::Status Do(const Copy& copy);
  absl::Status Do(const Add& add);
  absl::Status Do(const Cmd& cmd);
  absl::Status Do(const Entrypoint& entrypoint);
  absl::Status Do(const Shell& shell);
  absl::Status Do(const Workdir& workdir);
  absl::Status Do(const User& user);
  absl::Status Do(const Expose& expose);
  absl::Status Do(const Volume& volume);
  absl::Status Do(const StopSignal& signal);
  absl::Status Do(const Healthcheck& healthcheck);
  absl::Status Do(const Onbuild& onbuild);
  absl::Status Do(const Maintainer& maintainer);

  absl::Status SetWorkdir(const std::string& path, bool by_image);
  void CheckUsedOnce(std::optional<LineRange>* seen);
  void CheckLegacy(const KeyValue& pair);
  void CheckSecret(absl::string_view instruction, const std::string& key);
  std::vector<std::string> CommandWords(const CommandLine& command, bool lint);
  std::vector<std::string> WithShell(const std::vector<std::string>& args) const;

  // dispatch_run.cc
  struct RunStep;
  absl::StatusOr<std::vector<std::string>> RunArgs(const dockerfile::Run& run, RunStep* step);
  absl::Status AddMounts(const dockerfile::Run& run, RunStep* step);
  absl::Status AddFileMount(const Mount& mount, StageState* source, RunStep* step);
  absl::Status AddSecret(const Mount& mount, RunStep* step);
  absl::Status AddAgent(const Mount& mount, RunStep* step);
  std::string RunName(const std::string& text, const std::set<std::string>& secret_env);
  std::string RunHistory(const std::vector<std::string>& args) const;

  // dispatch_copy.cc
  absl::Status CopyFiles(CopyStep* step);
  absl::Status SetMode(CopyStep* step);
  absl::Status CheckChecksum(const CopyStep& step, const std::vector<std::string>& sources);
  absl::Status AddGit(const GitReference& git, CopyStep* step);
  absl::Status AddDownload(const std::string& url, CopyStep* step);
  absl::Status AddPath(const std::string& source, CopyStep* step);
  absl::Status AddInlineFile(const InlineFile& file, CopyStep* step);
  absl::Status Commit(CopyStep* step);
  void CheckIgnored(const std::string& source, bool is_add);
  absl::StatusOr<std::string> Destination(const std::string& path) const;

  // Expands a word with the variables of the stage, and reports those that are not set.
  absl::StatusOr<std::string> Expand(absl::string_view word, bool inline_file = false);
  void ReportUnset(const std::set<std::string>& unset);
  // The instruction as the name of a step shows it.
  std::string ShownCode() const;
  std::string NameStep(absl::string_view text, const std::optional<Platform>& platform);
  client::llb::Constraints NamedStep(std::string name) const;
  void AddHistory(std::string created_by, bool has_layer);
  const EnvList& env() const { return stage_.state.env(); }
  const LineRange& lines() const { return command_->instruction->text.lines; }
  const std::string& os() const { return stage_.platform->os; }

  const DispatchScope& scope_;
  StageState& stage_;
  Linter lint_;  // with the comments of the current instruction
  bool lint_has_comments_ = false;
  const StageCommand* command_ = nullptr;
};

// The ports of an EXPOSE as "80/tcp", ranges one by one. Reports what is not as it should be.
absl::StatusOr<std::vector<std::string>> ParsePort(const std::string& text, const LineRange& lines,
                                                   const Linter& lint);

// Names and numbers as kill(1) takes them. kInvalidArgument "invalid signal: x".
absl::Status CheckSignal(const std::string& text);

}  // namespace kiln::daemon::dockerfile
