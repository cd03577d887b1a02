#include "client/llb/state.h"

#include <algorithm>

#include "client/llb/exec.h"
#include "client/llb/exec_vertex.h"
#include "client/llb/file_action.h"
#include "client/llb/file_vertex.h"
#include "client/llb/go_path.h"
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
  if (!output_.platform || settings().platform == output_.platform) return;
  Platform platform = NormalizePlatform(*output_.platform);
  if (settings().platform != platform) MutableSettings().platform = std::move(platform);
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
  changed.MutableSettings().platform = NormalizePlatform(platform);
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
absl::Status MarshalGraph(const Output& root, MarshalContext& context, Definition* definition) {
  struct Frame {
    std::shared_ptr<const Vertex> vertex;
    std::vector<Output> inputs;
    size_t next = 0;
  };
  std::vector<Frame> stack;
  stack.push_back({root.vertex, root.vertex->Inputs()});
  while (!stack.empty()) {
    Frame& top = stack.back();
    if (top.next < top.inputs.size()) {
      std::shared_ptr<const Vertex> input = top.inputs[top.next++].vertex;
      if (context.Find(input.get()) != nullptr) continue;
      std::vector<Output> inputs = input->Inputs();
      stack.push_back({std::move(input), std::move(inputs)});
      continue;
    }
    KILN_ASSIGN_OR_RETURN(MarshalledOp op, top.vertex->Marshal(context));
    context.Add(top.vertex.get(), op.digest);
    const auto [beside, added] = definition->metadata.try_emplace(op.digest);
    if (added) {
      beside->second = std::move(op.metadata);
      definition->ops.push_back({op.digest, std::move(op.bytes)});
    } else {
      beside->second.Merge(std::move(op.metadata));
    }
    stack.pop_back();
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Definition> State::Marshal(const Constraints& defaults) const {
  Definition definition;
  if (scratch()) return definition;
  MarshalContext context(defaults);
  KILN_RETURN_IF_ERROR(MarshalGraph(output_, context, &definition));
  OpDraft last(context);
  KILN_RETURN_IF_ERROR(last.AddInput(output_).status());
  OpMetadata metadata;
  metadata.caps = {"constraints", "platform"};
  for (const auto& [digest, op] : definition.metadata) {
    if (op.ignore_cache) metadata.caps.insert("meta.ignorecache");
    if (!op.description.empty()) metadata.caps.insert("meta.description");
    if (op.export_cache) metadata.caps.insert("meta.exportcache");
  }
  MarshalledOp done = last.FinishRoot(std::move(metadata));
  definition.metadata[done.digest] = std::move(done.metadata);
  definition.ops.push_back({done.digest, std::move(done.bytes)});
  return definition;
}

}  // namespace kiln::client::llb
