#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client/llb/state.h"
#include "daemon/frontend/dockerfile/docker_image.h"
#include "daemon/frontend/dockerfile/named_context.h"
#include "daemon/frontend/dockerfile/syntax/document.h"
#include "daemon/frontend/dockerfile/syntax/instruction.h"
#include "daemon/frontend/dockerfile/syntax/location.h"
#include "daemon/image/platform.h"

namespace kiln::daemon::dockerfile {

struct StageState;

// An instruction of a stage, with the stages that its --from options name.
struct StageCommand {
  const Instruction* instruction;
  // COPY: one, or none for the build context. RUN: one for each mount.
  std::vector<StageState*> sources = {};
  bool is_trigger = false;  // came from ONBUILD
};

// What a build asks of its caller, for the outline.
struct ArgUse {
  ArgDefinition definition;
  std::string value;
  std::set<std::string> needs;  // other arguments that the default refers to
  LineRange lines;
};
struct SecretUse {
  bool required = false;
  LineRange lines;
};
struct OutlineNotes {
  std::map<std::string, ArgUse> args;  // all that are known
  std::set<std::string> used_args;
  std::map<std::string, SecretUse> secrets, agents;
};

// An item of the image's history to be.
struct HistoryLine {
  std::string created_by;
  bool has_layer = false;
};

// A stage while it is compiled. Stages are registered in the order of the file, then those that
// stand for images that --from names (`hidden`).
struct StageState {
  const Stage* written = nullptr;  // null: hidden
  std::string base_name;           // expanded; once resolved, the pinned reference
  std::string name;                // as shown: "stage-1" for an unnamed one, maybe ""
  LineRange lines;                 // that its FROM step is told with
  LineRange named_at;              // the instruction that names a hidden one; for errors
  bool hidden = false;

  std::optional<NamedContext> context;  // replaces the stage as a whole
  std::optional<Platform> platform;     // --platform, then what it turned out to be
  StageState* base = nullptr;           // another stage
  std::vector<StageCommand> commands;
  std::deque<Instruction> triggers;  // what ONBUILD added; commands point into it
  std::vector<std::pair<StageState*, LineRange>> dependencies;  // each once

  // Progress of the compilation.
  bool resolved = false;        // its base image is known
  bool triggers_added = false;  // of a base stage
  bool dispatched = false;
  std::string platform_finding;  // the base image is for another platform; told in order later

  client::llb::State state;
  DockerImage image;                 // its history is that of the first image in the chain
  std::vector<HistoryLine> history;  // what this stage adds, after what its bases add
  std::shared_ptr<const DockerImage> base_image;  // as it came, of the first image in the chain

  std::vector<ArgDefinition> declared_args;  // with their values, of base stages, too
  std::set<std::string> context_paths;       // read of the main context, absolute
  // Read of this stage's own file system, absolute; shared with its base.
  std::shared_ptr<std::set<std::string>> used_paths = std::make_shared<std::set<std::string>>();
  bool ignore_cache = false;
  bool workdir_set = false;                               // by an instruction, not by an image
  std::optional<LineRange> cmd, entrypoint, healthcheck;  // the last one of each
  bool scan_stage = false, scan_context = false;

  // For the names of steps: "[name 2/5]".
  int step_index = 0;
  int step_total = 0;

  OutlineNotes outline;

  const std::string& written_name() const {
    static const std::string& none = *new std::string();
    return written == nullptr ? none : written->name;
  }
  // An edge is shown where it was last said.
  void AddDependency(StageState* stage, const LineRange& where) {
    for (auto& [known, last] : dependencies) {
      if (known != stage) continue;
      last = where;
      return;
    }
    dependencies.emplace_back(stage, where);
  }
};

// Sorted, without the leading '/', for a client; empty when everything is needed.
std::vector<std::string> FollowPaths(const std::set<std::string>& paths);

}  // namespace kiln::daemon::dockerfile
