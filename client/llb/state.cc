#include "client/llb/state.h"

#include <algorithm>

#include "client/llb/exec.h"
#include "client/llb/exec_vertex.h"
#include "client/llb/file_action.h"
#include "client/llb/file_vertex.h"
#include "client/llb/go_path.h"
#include "client/llb/graph_writer.h"
#include "client/llb/op_draft.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {

const State::Settings& State::settings() const {
  static const Settings& none = *new Settings();
  return settings_ == nullptr ? none : *settings_;
}

State::Settings& State::MutableSettings() {
  auto copy = std::make_shared<Settings>(settings());
  Settings& changed = *copy;
  settings_ = std::move(copy);
  return changed;
}

void State::AdoptPlatform() {
  const std::shared_ptr<const Platform>& own = settings().platform;
  if (output_.platform == nullptr || own == output_.platform) return;
  Platform platform = NormalizePlatform(*output_.platform);
  if (own != nullptr && *own == platform) return;
  MutableSettings().platform = std::make_shared<const Platform>(std::move(platform));
}

State State::AddEnv(absl::string_view key, absl::string_view value) const {
  return AddEnvs({{std::string(key), std::string(value)}});
}

State State::AddEnvs(const std::vector<std::pair<std::string, std::string>>& variables) const {
  if (variables.empty()) return *this;
  State changed = *this;
  auto& env = changed.MutableSettings().env;
  for (const auto& [key, value] : variables) {
    const auto same = [&name = key](const auto& e) { return e.first == name; };
    env.erase(std::remove_if(env.begin(), env.end(), same), env.end());
    env.emplace_back(key, value);
  }
  return changed;
}

State State::Dir(absl::string_view path) const {
  State changed = *this;
  Settings& settings = changed.MutableSettings();
  const bool absolute = !path.empty() && path.front() == '/';
  settings.dir = absolute ? std::string(path) : JoinPath(settings.dir, path);
  return changed;
}

State State::User(absl::string_view user) const {
  State changed = *this;
  changed.MutableSettings().user = std::string(user);
  return changed;
}

State State::Hostname(absl::string_view hostname) const {
  State changed = *this;
  changed.MutableSettings().hostname = std::string(hostname);
  return changed;
}

State State::Network(NetMode mode) const {
  State changed = *this;
  changed.MutableSettings().network = mode;
  return changed;
}

State State::Security(SecurityMode mode) const {
  State changed = *this;
  changed.MutableSettings().security = mode;
  return changed;
}

State State::AddExtraHost(absl::string_view host, absl::string_view ip) const {
  State changed = *this;
  changed.MutableSettings().extra_hosts.push_back({std::string(host), std::string(ip)});
  return changed;
}

State State::AddUlimit(Ulimit limit) const {
  State changed = *this;
  changed.MutableSettings().ulimits.push_back(std::move(limit));
  return changed;
}

State State::CgroupParent(absl::string_view parent) const {
  State changed = *this;
  changed.MutableSettings().cgroup_parent = std::string(parent);
  return changed;
}

State State::WithPlatform(const Platform& platform) const {
  State changed = *this;
  changed.MutableSettings().platform =
      std::make_shared<const Platform>(NormalizePlatform(platform));
  return changed;
}

State State::WithOutput(Output output) const {
  State changed = *this;
  changed.output_ = std::move(output);
  changed.AdoptPlatform();
  return changed;
}

ExecState State::Run(RunInfo info) const {
  auto vertex = std::make_shared<ExecVertex>(*this, std::move(info));
  return ExecState(WithOutput(ExecVertex::RootOutput(vertex)), vertex);
}

State State::File(FileAction action, Constraints constraints) const {
  return WithOutput(
      {std::make_shared<FileVertex>(*this, std::move(action), std::move(constraints)), 0, {}});
}

namespace {

// Writes what `root` needs, inputs first, without recursion: graphs may be very deep.
absl::Status WriteGraph(const Vertex* root, GraphWriter& graph) {
  struct Frame {
    explicit Frame(const Vertex* v) : vertex(v), inputs(v->inputs()) {}
    const Vertex* vertex;
    Vertex::Inputs inputs;
    size_t next = 0;
  };
  std::vector<Frame> stack;
  stack.emplace_back(root);
  while (!stack.empty()) {
    Frame& top = stack.back();
    if (top.next < top.inputs.size()) {
      const Vertex* input = top.inputs[top.next++];
      if (graph.Find(input) == nullptr) stack.emplace_back(input);
      continue;
    }
    KILN_ASSIGN_OR_RETURN(const Digest digest, top.vertex->Write(graph));
    graph.Note(top.vertex, digest);
    stack.pop_back();
  }
  return absl::OkStatus();
}

// Of the last op: what all others have in common.
CapSet CapsOfAll(const std::vector<Definition::Op>& ops) {
  CapSet caps = {"constraints", "platform"};
  for (const Definition::Op& op : ops) {
    if (op.metadata->ignore_cache) caps.Add("meta.ignorecache");
    if (!op.metadata->description.empty()) caps.Add("meta.description");
    if (op.metadata->export_cache) caps.Add("meta.exportcache");
  }
  return caps;
}

}  // namespace

absl::StatusOr<Definition> State::Marshal(const Constraints& defaults) const {
  if (scratch()) return Definition();
  GraphWriter graph(defaults);
  KILN_RETURN_IF_ERROR(WriteGraph(output_.vertex.get(), graph));
  OpDraft last(graph);
  KILN_RETURN_IF_ERROR(last.AddInput(output_).status());
  last.FinishRoot(CapsOfAll(graph.ops()));
  return graph.Take();
}

}  // namespace kiln::client::llb
