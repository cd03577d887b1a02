#include "daemon/ops/exec_mounts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "daemon/executor/rootfs.h"
#include "daemon/session/services.h"
#include "daemon/session/session.h"
#include "spdlog/spdlog.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

absl::Status WithAnySession(const ExecOpDeps& deps, solver::OpContext& context,
                            const CancelToken& cancel,
                            const std::function<absl::Status(Session&)>& use) {
  const std::vector<std::string> ids = context.SessionIds();
  return deps.sessions->Any(ids, cancel, use);
}

absl::StatusOr<std::vector<std::string>> SecretEnvironment(const ExecOpDeps& deps,
                                                           const ExecPlan& plan,
                                                           solver::OpContext& context) {
  std::vector<std::string> env;
  for (const ExecPlan::SecretEnv& one : plan.secret_env) {
    if (one.id.empty())
      return absl::InvalidArgumentError(
          absl::StrCat("secret ID missing for \"", one.name, "\" environment variable"));
    std::string value;
    absl::Status got =
        WithAnySession(deps, context, context.cancel(), [&](Session& session) -> absl::Status {
          KILN_ASSIGN_OR_RETURN(value, GetSecret(session, one.id, context.cancel()));
          return absl::OkStatus();
        });
    if (!got.ok() && !(absl::IsNotFound(got) && one.optional)) return got;
    env.push_back(absl::StrCat(one.name, "=", value));
  }
  return env;
}

std::string NewStepId() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&id, "%08x", random());
  return id;
}

absl::StatusOr<std::unique_ptr<ExecMounts>> ExecMounts::Prepare(
    const ExecOpDeps& deps, const ExecPlan& plan, const std::string& id, solver::OpContext& context,
    absl::Span<const store::RefPtr> inputs) {
  std::unique_ptr<ExecMounts> mounts(new ExecMounts(deps, plan, context));
  mounts->folder_path_ = absl::StrCat(deps.runtime_dir, "/", id);
  for (const ExecPlan::Mount& mount : plan.mounts) {
    mounts->host_paths_.emplace_back();
    KILN_RETURN_IF_ERROR(mounts->Add(mount, inputs));
  }
  if (!plan.emulator.empty())
    mounts->mounts_.push_back({kEmulatorPath, plan.emulator, "bind", {"ro"}});
  // A parent's path is a prefix of its children's. Equal ones stay in order: the later one covers.
  std::stable_sort(
      mounts->mounts_.begin(), mounts->mounts_.end(),
      [](const ContainerMount& a, const ContainerMount& b) { return a.dest < b.dest; });
  return mounts;
}

ExecMounts::~ExecMounts() {
  if (absl::Status s = Release(); !s.ok()) spdlog::warn("release mounts: {}", s.ToString());
}

absl::Status ExecMounts::Add(const ExecPlan::Mount& mount, absl::Span<const store::RefPtr> inputs) {
  using Type = ExecPlan::MountType;
  store::RefPtr input;
  if (mount.input >= 0) {
    if (static_cast<size_t>(mount.input) >= inputs.size())
      return absl::InvalidArgumentError(absl::StrCat("missing input ", mount.input));
    input = inputs[static_cast<size_t>(mount.input)];
  }
  switch (mount.type) {
    case Type::kBind:
      return AddBind(mount, input);
    case Type::kCache:
      return AddCache(mount, input);
    case Type::kSecret:
      return AddSecret(mount);
    case Type::kSsh:
      return AddSsh(mount);
    case Type::kTmpfs: {
      ContainerMount tmpfs{mount.dest, "", "tmpfs", {"nosuid"}};
      if (mount.readonly) tmpfs.options.push_back("ro");
      if (mount.tmpfs_size > 0) tmpfs.options.push_back(absl::StrCat("size=", mount.tmpfs_size));
      mounts_.push_back(std::move(tmpfs));
      return absl::OkStatus();
    }
  }
  return absl::InternalError("mount type");
}

absl::Status ExecMounts::AddBind(const ExecPlan::Mount& mount, const store::RefPtr& input) {
  // Only a read-only input away from the root is used as it is: the root takes mount targets, and
  // without an input there is nothing to use.
  const bool as_it_is = mount.readonly && input != nullptr && !mount.is_root;
  std::string tree;
  if (as_it_is) {
    KILN_ASSIGN_OR_RETURN(tree, MountInput(input));
    if (mount.has_output) outputs_.push_back({input, std::nullopt});
  } else {
    KILN_ASSIGN_OR_RETURN(tree, MakeChild(mount, input));
    if (mount.has_output) outputs_.push_back({nullptr, children_.size() - 1});
  }
  if (mount.is_root) return SetRoot(mount, tree);
  KILN_ASSIGN_OR_RETURN(std::string source, Select(tree, mount, /*pinned=*/false));
  host_paths_.back() = source;
  mounts_.push_back({mount.dest, std::move(source), "bind", {mount.readonly ? "ro" : "rw"}});
  return absl::OkStatus();
}

absl::Status ExecMounts::SetRoot(const ExecPlan::Mount& mount, const std::string& tree) {
  KILN_ASSIGN_OR_RETURN(rootfs_, Select(tree, mount, /*pinned=*/false));
  host_paths_.back() = rootfs_;
  rootfs_readonly_ = mount.readonly;
  return absl::OkStatus();
}

absl::Status ExecMounts::AddCache(const ExecPlan::Mount& mount, const store::RefPtr& input) {
  CacheMounts::Request request;
  request.id = mount.cache_id;
  request.parent = input;
  request.exclusive_directory = mount.sharing == ExecPlan::Sharing::kPrivate;
  request.description =
      absl::StrCat("cached mount ", mount.dest, " from exec ", absl::StrJoin(plan_.args, " "));
  if (mount.cache_id != mount.dest)
    absl::StrAppend(&request.description, " with id \"", mount.cache_id, "\"");
  std::shared_ptr<CacheDirectory> directory;
  // The same id twice in one step is one directory, whatever the mode.
  const std::string key = absl::StrCat(request.id, "\n", input == nullptr ? "" : input->id());
  auto known = cache_by_key_.find(key);
  if (known != cache_by_key_.end()) {
    directory = known->second;
  } else {
    KILN_ASSIGN_OR_RETURN(directory, deps_.cache_mounts->Acquire(request));
    cache_by_key_.emplace(key, directory);
  }
  KILN_ASSIGN_OR_RETURN(std::string source, Select(directory->path(), mount, /*pinned=*/true));
  host_paths_.back() = source;
  mounts_.push_back({mount.dest, std::move(source), "bind", {mount.readonly ? "ro" : "rw"}});
  if (mount.has_output && input != nullptr) outputs_.push_back({input, std::nullopt});
  return absl::OkStatus();
}

absl::Status ExecMounts::AddSecret(const ExecPlan::Mount& mount) {
  const ExecPlan::Secret& secret = mount.secret;
  std::string data;
  absl::Status got =
      WithAnySession(deps_, context_, context_.cancel(), [&](Session& session) -> absl::Status {
        KILN_ASSIGN_OR_RETURN(data, GetSecret(session, secret.id, context_.cancel()));
        return absl::OkStatus();
      });
  if (absl::IsNotFound(got) && secret.optional) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(got);
  KILN_ASSIGN_OR_RETURN(const std::string folder, StepFolder());
  const std::string path = absl::StrCat(folder, "/secret-", mounts_.size());
  KILN_ASSIGN_OR_RETURN(Fd file, OpenFile(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  KILN_RETURN_IF_ERROR(Annotate(WriteAll(file.get(), data), absl::StrCat("secret ", secret.id)));
  if (::fchown(file.get(), secret.uid, secret.gid) != 0 || ::fchmod(file.get(), secret.mode) != 0)
    return ErrnoStatus(errno, absl::StrCat("own secret ", secret.id));
  ContainerMount bind{mount.dest, path, "bind", {"ro", "nosuid", "nodev"}};
  if ((secret.mode & 0111) == 0) bind.options.push_back("noexec");
  mounts_.push_back(std::move(bind));
  return absl::OkStatus();
}

absl::Status ExecMounts::AddSsh(const ExecPlan::Mount& mount) {
  const ExecPlan::Secret& agent = mount.secret;
  absl::Status found =
      WithAnySession(deps_, context_, context_.cancel(), [&](Session& session) -> absl::Status {
        return CheckSshAgent(session, agent.id, context_.cancel());
      });
  if (!found.ok()) {
    KILN_RETURN_IF_ERROR(context_.cancel().status());
    if (agent.optional) return absl::OkStatus();
    return found;
  }
  KILN_ASSIGN_OR_RETURN(const std::string folder, StepFolder());
  // Each connection looks for a session anew: the one that answered first may have left.
  auto serve = [this, id = agent.id](Fd connection, const CancelToken& cancel) {
    return WithAnySession(deps_, context_, cancel, [&](Session& session) -> absl::Status {
      KILN_RETURN_IF_ERROR(CheckSshAgent(session, id, cancel));
      absl::Status forwarded = ForwardSshAgent(session, id, std::move(connection), cancel);
      // What was said cannot be said again to another agent.
      if (!forwarded.ok() && !cancel.Cancelled())
        spdlog::warn("forward ssh agent {}: {}", id, forwarded.ToString());
      return absl::OkStatus();
    });
  };
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<SocketProxy> socket,
                        SocketProxy::Start(folder, absl::StrCat("ssh-", sockets_.size()), agent.uid,
                                           agent.gid, agent.mode, std::move(serve)));
  mounts_.push_back({mount.dest, socket->path(), "bind", {"rw"}});
  sockets_.push_back(std::move(socket));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ExecMounts::MakeChild(const ExecPlan::Mount& mount,
                                                  const store::RefPtr& input) {
  store::RefOptions options;
  options.description =
      absl::StrCat("mount ", mount.dest, " from exec ", absl::StrJoin(plan_.args, " "));
  Child child;
  child.mount = host_paths_.size() - 1;
  KILN_ASSIGN_OR_RETURN(child.ref, deps_.refs->New(input, options));
  KILN_ASSIGN_OR_RETURN(child.tree, deps_.refs->Mount(*child.ref));
  std::string path = child.tree->path();
  children_.push_back(std::move(child));
  return path;
}

absl::StatusOr<std::string> ExecMounts::MountInput(const store::RefPtr& input) {
  std::unique_ptr<store::MountedTree>& tree = inputs_[input->id()];
  if (tree == nullptr) {
    KILN_ASSIGN_OR_RETURN(tree, deps_.refs->Mount(input));
  }
  return tree->path();
}

absl::StatusOr<std::string> ExecMounts::StepFolder() {
  if (made_folder_) return folder_path_;
  if (::mkdir(folder_path_.c_str(), 0700) != 0)
    return ErrnoStatus(errno, absl::StrCat("make folder ", folder_path_));
  made_folder_ = true;
  return folder_path_;
}

absl::StatusOr<std::string> ExecMounts::Select(const std::string& tree,
                                               const ExecPlan::Mount& mount, bool pinned) {
  const std::string& selector = mount.selector;
  if (selector == "/") return tree;
  KILN_ASSIGN_OR_RETURN(const Rootfs root, Rootfs::Open(tree));
  KILN_ASSIGN_OR_RETURN(const Rootfs::Location where, root.Locate(selector));
  if (where.missing > 0)
    return absl::NotFoundError(
        absl::StrCat("mount ", mount.dest, ": ", selector, ": no such file or directory"));
  if (!pinned) return absl::StrCat(tree, where.path);
  // Other users of the directory could put a link in the way before the runtime mounts it: what
  // was found is bound to a place of our own.
  KILN_ASSIGN_OR_RETURN(const Fd found, root.OpenAt(where.path, O_PATH));
  struct stat st;
  if (::fstat(found.get(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", selector));
  KILN_ASSIGN_OR_RETURN(const std::string folder, StepFolder());
  const std::string target = absl::StrCat(folder, "/pin-", pins_.size());
  const int made = S_ISDIR(st.st_mode) ? ::mkdir(target.c_str(), 0700)
                                       : ::mknod(target.c_str(), S_IFREG | 0600, 0);
  if (made != 0) return ErrnoStatus(errno, absl::StrCat("make ", target));
  KILN_ASSIGN_OR_RETURN(
      kiln::Mount pin,
      kiln::Mount::Bind(absl::StrCat("/proc/self/fd/", found.get()), target, BindOptions{}));
  pins_.push_back(std::move(pin));
  return target;
}

absl::StatusOr<std::string> ExecMounts::HostPath(size_t index) const {
  if (index >= host_paths_.size())
    return absl::InvalidArgumentError(absl::StrCat("no mount ", index));
  if (host_paths_[index].empty())
    return absl::UnimplementedError(absl::StrCat(
        "reading files of the mount ", plan_.mounts[index].dest, ", which has none here"));
  return host_paths_[index];
}

absl::Status ExecMounts::Release() {
  absl::Status first;
  const auto note = [&first](absl::Status status) {
    if (first.ok()) first = std::move(status);
  };
  sockets_.clear();  // no connection asks a session any more
  for (kiln::Mount& pin : pins_) note(pin.Close());
  pins_.clear();
  cache_by_key_.clear();
  for (auto& [id, tree] : inputs_) note(tree->Close());
  inputs_.clear();
  for (Child& child : children_) {
    if (child.tree != nullptr) note(child.tree->Close());
    child.tree.reset();
  }
  if (made_folder_) {
    std::error_code error;
    std::filesystem::remove_all(folder_path_, error);
    if (error)
      note(absl::UnknownError(absl::StrCat("remove ", folder_path_, ": ", error.message())));
    made_folder_ = false;
  }
  return first;
}

absl::StatusOr<std::vector<store::RefPtr>> ExecMounts::Commit() {
  KILN_RETURN_IF_ERROR(Release());
  std::vector<store::RefPtr> results;
  for (Output& output : outputs_) {
    if (!output.child.has_value()) {
      results.push_back(std::move(output.ref));
      continue;
    }
    store::MutableRef& child = *children_[*output.child].ref;
    const std::string doing = absl::StrCat("error committing ", child.id());
    KILN_ASSIGN_OR_RETURN(store::RefPtr committed, Annotate(child.Commit(), doing));
    results.push_back(std::move(committed));
  }
  return results;
}

absl::Status ExecMounts::CommitLeft(std::vector<store::RefPtr>* left) {
  KILN_RETURN_IF_ERROR(Release());
  for (Child& child : children_) {
    KILN_ASSIGN_OR_RETURN((*left)[child.mount],
                          Annotate(child.ref->Commit(), absl::StrCat("commit ", child.ref->id())));
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
