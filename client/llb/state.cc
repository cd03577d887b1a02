#include "client/llb/state.h"

#include <vector>

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
  if (settings_ == nullptr || settings_.use_count() > 1)
    settings_ = std::make_shared<Settings>(settings());
  return *settings_;
}

void State::AdoptPlatform() {
  const std::shared_ptr<const Platform>& own = settings().platform;
  if (output_.platform == nullptr || own == output_.platform) return;
  Platform platform = NormalizePlatform(*output_.platform);
  if (own != nullptr && *own == platform) return;
  MutableSettings().platform = std::make_shared<const Platform>(std::move(platform));
}

State State::AddEnv(absl::string_view key, absl::string_view value) const& {
  return State(*this).AddEnv(key, value);
}

State State::AddEnv(absl::string_view key, absl::string_view value) && {
  MutableSettings().env.Set(key, value);
  return std::move(*this);
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

struct Numbered {
  const Vertex* vertex;
  size_t number;
};

// What `root` needs and itself, inputs first. Without recursion: graphs may be very deep.
std::vector<Numbered> InputsFirst(const Vertex* root, GraphWriter::Numbers* numbers) {
  struct Frame {
    explicit Frame(Numbered n) : self(n), inputs(n.vertex->inputs()) {}
    Numbered self;
    Vertex::Inputs inputs;
    size_t next = 0;
  };
  std::vector<Numbered> order;
  numbers->emplace(root, 0);
  std::vector<Frame> stack;
  stack.emplace_back(Numbered{root, 0});
  while (!stack.empty()) {
    Frame& top = stack.back();
    if (top.next < top.inputs.size()) {
      const Vertex* input = top.inputs[top.next++];
      const size_t number = numbers->size();
      if (numbers->emplace(input, number).second) stack.emplace_back(Numbered{input, number});
      continue;
    }
    order.push_back(top.self);
    stack.pop_back();
  }
  return order;
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
  GraphWriter::Numbers numbers;
  const std::vector<Numbered> order = InputsFirst(output_.vertex.get(), &numbers);
  GraphWriter graph(defaults, std::move(numbers));
  for (const auto& [vertex, number] : order) {
    KILN_ASSIGN_OR_RETURN(const Digest digest, vertex->Write(graph));
    graph.Note(number, digest);
  }
  OpDraft last(graph);
  KILN_RETURN_IF_ERROR(last.AddInput(output_).status());
  last.FinishRoot(CapsOfAll(graph.ops()));
  return graph.Take();
}

}  // namespace kiln::client::llb
