#include "daemon/source/git_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "daemon/ops/ssh_proxy.h"
#include "daemon/session/services.h"
#include "daemon/source/git_command.h"
#include "daemon/source/git_repository.h"
#include "daemon/source/git_spec.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/fsutil/directory_target.h"

namespace kiln::daemon {
namespace {

// git for one call of a source, with what it lends from the client.
struct PreparedGit {
  GitCommand command;
  std::string folder;  // removed at the end; "" none
  SessionPtr ssh_session;
  std::unique_ptr<SocketProxy> ssh_socket;

  PreparedGit() = default;
  PreparedGit(PreparedGit&& other) noexcept
      : command(std::move(other.command)),
        folder(std::exchange(other.folder, "")),
        ssh_session(std::move(other.ssh_session)),
        ssh_socket(std::move(other.ssh_socket)) {}
  PreparedGit& operator=(PreparedGit&&) = delete;
  ~PreparedGit() {
    ssh_socket.reset();
    if (!folder.empty()) (void)fsutil::RemoveTree(AT_FDCWD, folder);
  }
};

std::string HostWithPort(const std::string& remote) {
  const size_t begin = remote.find("://") + 3;
  std::string authority = remote.substr(begin, remote.find('/', begin) - begin);
  const size_t at = authority.rfind('@');
  return at == std::string::npos ? authority : authority.substr(at + 1);
}

// A token is meant for its remote; on github.com one serves all repositories, as submodules often
// are on the same host.
std::string TokenScope(const std::string& remote) {
  for (const char* prefix : {"https://github.com/", "https://www.github.com/"})
    if (absl::StartsWith(remote, prefix)) return prefix;
  return remote;
}

class GitInstance : public SourceInstance {
 public:
  GitInstance(GitSpec spec, store::RefStore* refs, SessionFinder* sessions, std::string runtime_dir,
              Source* blobs, NamedLocks* locks)
      : spec_(std::move(spec)),
        refs_(refs),
        sessions_(sessions),
        runtime_dir_(std::move(runtime_dir)),
        blobs_(blobs),
        locks_(locks) {}

  absl::StatusOr<SourceKey> Key(solver::OpContext& context, int index) override;
  absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext& context) override;
  absl::StatusOr<SourceDetails> Details(solver::OpContext& context, bool objects) override;

 private:
  absl::StatusOr<GitResolved> ResolveOnce(solver::OpContext& context);
  absl::StatusOr<GitResolved> Ask(solver::OpContext& context);
  absl::Status VerifySignature(solver::OpContext& context, const GitResolved& resolved);
  std::string KeyOf(const GitResolved& resolved) const;

  absl::StatusOr<PreparedGit> Prepare(solver::OpContext& context);
  absl::Status AddToken(solver::OpContext& context, GitCommand* git);
  absl::Status AddSshAgent(solver::OpContext& context, PreparedGit* git);
  absl::Status MakeFolder(PreparedGit* git) const;

  absl::StatusOr<std::unique_ptr<store::MutableRef>> OpenRepository(const GitCommand& git,
                                                                    bool sha256_names, bool fresh);
  absl::StatusOr<std::unique_ptr<store::MutableRef>> Fetch(solver::OpContext& context,
                                                           GitCommand& git,
                                                           const GitResolved& resolved);
  absl::StatusOr<GitResolved> AskBundle(solver::OpContext& context);
  absl::Status WithBundle(solver::OpContext& context,
                          const std::function<absl::Status(const std::string& file)>& use);
  std::string BundleName() const;
  absl::StatusOr<store::RefPtr> Build(solver::OpContext& context, const GitResolved& resolved,
                                      const std::string& index_key);

  const GitSpec spec_;
  store::RefStore* const refs_;
  SessionFinder* const sessions_;
  const std::string runtime_dir_;
  Source* const blobs_;
  NamedLocks* const locks_;

  Mutex mu_;
  std::optional<GitResolved> resolved_ ABSL_GUARDED_BY(mu_);
};

// ---- key ----

absl::StatusOr<GitResolved> GitInstance::ResolveOnce(solver::OpContext& context) {
  {
    MutexLock lock(&mu_);
    if (resolved_.has_value()) return *resolved_;
  }
  absl::StatusOr<GitResolved> asked = Ask(context);
  if (context.cancel().Cancelled()) return context.cancel().status();
  KILN_ASSIGN_OR_RETURN(GitResolved resolved, std::move(asked));
  if (!spec_.checksum.empty() && !IsCommitSha(resolved.ref) && !spec_.fetch_by_commit &&
      !absl::StartsWith(resolved.object, spec_.checksum) &&
      !absl::StartsWith(resolved.peeled, spec_.checksum))
    return absl::FailedPreconditionError(
        absl::StrCat("expected checksum to match ", spec_.checksum, ", got ", resolved.object,
                     resolved.peeled.empty() ? "" : absl::StrCat(" or ", resolved.peeled)));
  if (spec_.signature.has_value()) {
    const absl::Status verified = VerifySignature(context, resolved);
    KILN_RETURN_IF_ERROR(context.cancel().status());
    KILN_RETURN_IF_ERROR(Annotate(verified, spec_.redacted()));
  }
  MutexLock lock(&mu_);
  if (!resolved_.has_value()) resolved_ = std::move(resolved);
  return *resolved_;
}

absl::StatusOr<GitResolved> GitInstance::Ask(solver::OpContext& context) {
  if (IsCommitSha(spec_.ref)) return GitResolved{spec_.ref, spec_.ref, ""};
  if (!spec_.bundle.empty() && spec_.ref.empty())
    return GitResolved{spec_.checksum, spec_.checksum, ""};
  if (spec_.fetch_by_commit && spec_.bundle.empty()) {
    std::string ref = spec_.ref.empty() ? spec_.checksum : spec_.ref;
    // As ls-remote would name it: a plain name is a branch.
    if (!spec_.ref.empty() && !absl::StartsWith(ref, "refs/")) ref = "refs/heads/" + ref;
    return GitResolved{ref, spec_.checksum, ""};
  }
  // One answer for each job: all its vertices see the same commit of a ref.
  KILN_ASSIGN_OR_RETURN(const std::string text,
                        context.job_values().GetOrMake(
                            absl::StrCat("git:", spec_.remote, "#", spec_.ref, "#", spec_.bundle),
                            [&]() -> absl::StatusOr<std::string> {
                              GitResolved resolved;
                              if (!spec_.bundle.empty()) {
                                KILN_ASSIGN_OR_RETURN(resolved, AskBundle(context));
                              } else {
                                KILN_ASSIGN_OR_RETURN(const PreparedGit git, Prepare(context));
                                KILN_ASSIGN_OR_RETURN(resolved, ResolveGitRef(git.command, spec_));
                              }
                              return absl::StrCat(resolved.object, "\n", resolved.peeled, "\n",
                                                  resolved.ref);
                            }));
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits('\n', 2));
  if (parts.size() != 3) return absl::InternalError("git resolver value");
  return GitResolved{parts[2], parts[0], parts[1]};
}

// Before the key is taken for good: what is cached under it must not be had without.
absl::Status GitInstance::VerifySignature(solver::OpContext& context, const GitResolved& resolved) {
  KILN_ASSIGN_OR_RETURN(const auto remote_lock,
                        locks_->Acquire(absl::StrCat("remote ", spec_.remote), context.cancel()));
  KILN_ASSIGN_OR_RETURN(PreparedGit git, Prepare(context));
  KILN_ASSIGN_OR_RETURN(const auto repository, Fetch(context, git.command, resolved));
  KILN_ASSIGN_OR_RETURN(const std::string commit,
                        ReadGitObject(git.command, "commit", resolved.commit()));
  std::string tag;
  if (!resolved.peeled.empty()) {
    KILN_ASSIGN_OR_RETURN(tag, ReadGitObject(git.command, "tag", resolved.object));
  }
  KILN_RETURN_IF_ERROR(MakeFolder(&git));
  return VerifyGitSignature(*spec_.signature, commit, tag, git.folder, context.cancel());
}

std::string GitInstance::KeyOf(const GitResolved& resolved) const {
  // Without .git nothing of a tag object is left, so tag and commit are the same content. A bundle
  // of a tag has it.
  const bool has_tag = spec_.keep_git_dir || (spec_.checkout_bundle &&
                                              absl::StartsWith(spec_.bundle_ref(), "refs/tags/"));
  return spec_.CacheKey(has_tag ? resolved.object : resolved.commit(), resolved.ref);
}

absl::StatusOr<SourceKey> GitInstance::Key(solver::OpContext& context, int /*index*/) {
  KILN_ASSIGN_OR_RETURN(const GitResolved resolved, ResolveOnce(context));
  SourceKey key;
  key.key = KeyOf(resolved);
  key.pin = resolved.object;
  return key;
}

absl::StatusOr<SourceDetails> GitInstance::Details(solver::OpContext& context, bool objects) {
  KILN_ASSIGN_OR_RETURN(const GitResolved resolved, ResolveOnce(context));
  SourceDetails details;
  details.git_ref = resolved.ref;
  details.git_commit = resolved.commit();
  if (!objects) return details;
  KILN_ASSIGN_OR_RETURN(const auto remote_lock,
                        locks_->Acquire(absl::StrCat("remote ", spec_.remote), context.cancel()));
  KILN_ASSIGN_OR_RETURN(PreparedGit git, Prepare(context));
  KILN_ASSIGN_OR_RETURN(const auto repository, Fetch(context, git.command, resolved));
  KILN_ASSIGN_OR_RETURN(details.git_commit_object,
                        ReadGitObject(git.command, "commit", resolved.commit()));
  if (!resolved.peeled.empty()) {
    KILN_ASSIGN_OR_RETURN(details.git_tag_object,
                          ReadGitObject(git.command, "tag", resolved.object));
  }
  details.changed = CommitTime(details.git_commit_object);
  return details;
}

// ---- what git needs ----

absl::Status GitInstance::MakeFolder(PreparedGit* git) const {
  if (!git->folder.empty()) return absl::OkStatus();
  std::string path = absl::StrCat(runtime_dir_, "/git-XXXXXX");
  if (::mkdtemp(path.data()) == nullptr) return ErrnoStatus(errno, absl::StrCat("mkdtemp ", path));
  git->folder = path;
  return absl::OkStatus();
}

absl::StatusOr<PreparedGit> GitInstance::Prepare(solver::OpContext& context) {
  PreparedGit git;
  git.command.cancel = context.cancel();
  if (spec_.redacted() != spec_.remote) {
    git.command.secret_text = spec_.remote;
    git.command.secret_replacement = spec_.redacted();
  }
  git.command.log = [&context](absl::string_view text) {
    solver::LogChunk chunk;
    chunk.stream = 2;
    chunk.data = std::string(text);
    chunk.timestamp = absl::Now();
    context.progress().Log(std::move(chunk));
  };
  KILN_RETURN_IF_ERROR(AddToken(context, &git.command));
  if (!spec_.known_hosts.empty()) {
    KILN_RETURN_IF_ERROR(MakeFolder(&git));
    git.command.known_hosts_file = absl::StrCat(git.folder, "/known_hosts");
    KILN_RETURN_IF_ERROR(WriteFileAtomic(git.command.known_hosts_file, spec_.known_hosts));
  }
  if (!spec_.ssh_id.empty()) KILN_RETURN_IF_ERROR(AddSshAgent(context, &git));
  return git;
}

absl::Status GitInstance::AddToken(solver::OpContext& context, GitCommand* git) {
  if (!absl::StartsWith(spec_.remote, "http")) return absl::OkStatus();
  struct Candidate {
    std::string secret;
    bool token;
  };
  std::vector<Candidate> candidates;
  for (const std::string& suffix : {absl::StrCat(".", HostWithPort(spec_.remote)), std::string()}) {
    if (!spec_.auth_header_secret.empty())
      candidates.push_back({spec_.auth_header_secret + suffix, false});
    if (!spec_.auth_token_secret.empty())
      candidates.push_back({spec_.auth_token_secret + suffix, true});
  }
  const std::vector<std::string> ids = context.SessionIds();
  if (candidates.empty() || ids.empty()) return absl::OkStatus();
  std::string header;
  const absl::Status status =
      sessions_->Any(ids, context.cancel(), [&](Session& session) -> absl::Status {
        for (const Candidate& candidate : candidates) {
          absl::StatusOr<std::string> value =
              GetSecret(session, candidate.secret, context.cancel());
          if (absl::IsNotFound(value.status())) continue;
          KILN_RETURN_IF_ERROR(value.status());
          const std::string text(absl::StripTrailingAsciiWhitespace(*value));
          header = candidate.token
                       ? absl::StrCat("basic ",
                                      absl::Base64Escape(absl::StrCat("x-access-token:", text)))
                       : text;
          return absl::OkStatus();
        }
        return absl::NotFoundError("no git credentials");
      });
  if (context.cancel().Cancelled()) return context.cancel().status();
  // Without credentials the repository may still be public.
  if (!status.ok()) return absl::OkStatus();
  git->config.emplace_back(absl::StrCat("http.", TokenScope(spec_.remote), ".extraheader"),
                           absl::StrCat("Authorization: ", header));
  return absl::OkStatus();
}

absl::Status GitInstance::AddSshAgent(solver::OpContext& context, PreparedGit* git) {
  KILN_RETURN_IF_ERROR(MakeFolder(git));
  SessionPtr chosen;
  const absl::Status found =
      sessions_->Any(context.SessionIds(), context.cancel(), [&](Session& session) -> absl::Status {
        KILN_RETURN_IF_ERROR(CheckSshAgent(session, spec_.ssh_id, context.cancel()));
        KILN_ASSIGN_OR_RETURN(chosen, sessions_->Get(session.id(), context.cancel()));
        return absl::OkStatus();
      });
  if (!found.ok()) return found;
  auto serve = [session = chosen, id = spec_.ssh_id](Fd connection, const CancelToken& cancel) {
    return ForwardSshAgent(*session, id, std::move(connection), cancel);
  };
  KILN_ASSIGN_OR_RETURN(git->ssh_socket, SocketProxy::Start(git->folder, "agent", ::geteuid(),
                                                            ::getegid(), 0700, std::move(serve)));
  git->command.ssh_auth_sock = git->ssh_socket->path();
  return absl::OkStatus();
}

// ---- snapshot ----

absl::StatusOr<std::unique_ptr<store::MutableRef>> GitInstance::OpenRepository(
    const GitCommand& git, bool sha256_names, bool fresh) {
  const std::string index_key = absl::StrCat("git-remote::", spec_.remote);
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> ids, refs_->Search(index_key));
  for (const std::string& id : ids) {
    absl::StatusOr<std::unique_ptr<store::MutableRef>> repository = refs_->Reopen(id);
    if (!repository.ok()) continue;
    if (!fresh) return repository;
    (*repository)->SetRetain(false);
  }
  store::RefOptions options;
  options.description = absl::StrCat("shared git repo for ", spec_.redacted());
  options.retain = true;
  options.index_key = index_key;
  KILN_ASSIGN_OR_RETURN(auto repository, refs_->New(nullptr, options));
  GitCommand init = git;
  init.git_dir = repository->upper_dir();
  std::vector<std::string> args = {"-c", "init.defaultBranch=master", "init", "--bare"};
  if (sha256_names) args.push_back("--object-format=sha256");
  absl::Status status = init.Run(std::move(args)).status();
  if (status.ok()) status = init.Run({"remote", "add", "--", "origin", spec_.remote}).status();
  if (!status.ok()) {
    repository->SetRetain(false);
    return Annotate(status, absl::StrCat("failed to init repo for ", spec_.redacted()));
  }
  return repository;
}

// The repository, with the commit in it.
absl::StatusOr<std::unique_ptr<store::MutableRef>> GitInstance::Fetch(solver::OpContext& context,
                                                                      GitCommand& git,
                                                                      const GitResolved& resolved) {
  const bool sha256_names = resolved.object.size() == 64;
  KILN_ASSIGN_OR_RETURN(auto repository, OpenRepository(git, sha256_names, false));
  git.git_dir = repository->upper_dir();
  if (!spec_.bundle.empty() && !HasGitCommit(git, resolved.object))
    KILN_RETURN_IF_ERROR(WithBundle(context, [&](const std::string& file) {
      return ImportGitBundle(git, spec_, file, BundleName()).status();
    }));
  absl::Status status = FetchGit(git, spec_, resolved);
  if (absl::IsAborted(status)) {
    repository->SetRetain(false);
    repository.reset();
    KILN_ASSIGN_OR_RETURN(repository, OpenRepository(git, sha256_names, true));
    git.git_dir = repository->upper_dir();
    status = FetchGit(git, spec_, resolved);
  }
  if (!status.ok()) return status;
  return repository;
}

// Lends the file of the bundle, whose digest was checked.
absl::Status GitInstance::WithBundle(
    solver::OpContext& context, const std::function<absl::Status(const std::string& file)>& use) {
  if (blobs_ == nullptr)
    return absl::UnimplementedError("git bundles (git.bundle): this daemon fetches no blobs");
  static constexpr char kFile[] = "bundle";
  SourceSpec blob{spec_.bundle, {{"http.filename", kFile}}};
  if (!spec_.bundle_session.empty()) blob.attrs["oci.session"] = spec_.bundle_session;
  if (!spec_.bundle_store.empty()) blob.attrs["oci.store"] = spec_.bundle_store;
  const std::string doing = absl::StrCat("failed to fetch git bundle ", spec_.bundle);
  KILN_ASSIGN_OR_RETURN(const auto instance, Annotate(blobs_->Resolve(blob), doing));
  KILN_ASSIGN_OR_RETURN(const store::RefPtr ref, Annotate(instance->Snapshot(context), doing));
  KILN_ASSIGN_OR_RETURN(const store::Layers layers, ref->Materialize(context.cancel()));
  return use(absl::StrCat(layers.back(), "/", kFile));
}

// The bundle's digest, as a folder of refs.
std::string GitInstance::BundleName() const {
  return spec_.bundle.substr(spec_.bundle.size() - 64);
}

absl::StatusOr<GitResolved> GitInstance::AskBundle(solver::OpContext& context) {
  KILN_ASSIGN_OR_RETURN(const auto remote_lock,
                        locks_->Acquire(absl::StrCat("remote ", spec_.remote), context.cancel()));
  KILN_ASSIGN_OR_RETURN(PreparedGit git, Prepare(context));
  GitResolved resolved;
  KILN_RETURN_IF_ERROR(WithBundle(context, [&](const std::string& file) -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const size_t length, BundleNameLength(git.command, file));
    KILN_ASSIGN_OR_RETURN(const auto repository, OpenRepository(git.command, length == 64, false));
    git.command.git_dir = repository->upper_dir();
    KILN_ASSIGN_OR_RETURN(resolved, ImportGitBundle(git.command, spec_, file, BundleName()));
    return absl::OkStatus();
  }));
  return resolved;
}

absl::StatusOr<store::RefPtr> GitInstance::Build(solver::OpContext& context,
                                                 const GitResolved& resolved,
                                                 const std::string& index_key) {
  KILN_ASSIGN_OR_RETURN(const auto remote_lock,
                        locks_->Acquire(absl::StrCat("remote ", spec_.remote), context.cancel()));
  KILN_ASSIGN_OR_RETURN(PreparedGit git, Prepare(context));
  KILN_ASSIGN_OR_RETURN(const auto repository, Fetch(context, git.command, resolved));
  store::RefOptions options;
  options.description = absl::StrCat("git snapshot for ", spec_.redacted(), "#", spec_.ref);
  options.record_type = "source.git.checkout";
  KILN_ASSIGN_OR_RETURN(auto checkout, refs_->New(nullptr, options));
  KILN_RETURN_IF_ERROR(CheckOutGit(git.command, spec_, resolved, checkout->upper_dir()));
  KILN_ASSIGN_OR_RETURN(store::RefPtr ref, checkout->Commit());
  KILN_RETURN_IF_ERROR(refs_->SetIndexKey(ref->id(), index_key));
  return ref;
}

absl::StatusOr<store::RefPtr> GitInstance::Snapshot(solver::OpContext& context) {
  KILN_ASSIGN_OR_RETURN(const GitResolved resolved, ResolveOnce(context));
  const std::string index_key = absl::StrCat("git-snapshot::", KeyOf(resolved), ":", spec_.subdir);
  KILN_ASSIGN_OR_RETURN(const auto lock, locks_->Acquire(index_key, context.cancel()));
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> ids, refs_->Search(index_key));
  for (const std::string& id : ids) {
    absl::StatusOr<store::RefPtr> ref = refs_->Get(id);
    if (ref.ok()) return ref;
  }
  absl::StatusOr<store::RefPtr> ref = Build(context, resolved, index_key);
  if (!ref.ok() && context.cancel().Cancelled()) return context.cancel().status();
  return ref;
}

}  // namespace

absl::StatusOr<std::shared_ptr<SourceInstance>> GitSource::Resolve(const SourceSpec& spec) {
  KILN_ASSIGN_OR_RETURN(GitSpec git, ParseGitSpec(spec));
  return std::make_shared<GitInstance>(std::move(git), refs_, sessions_, runtime_dir_, blobs_,
                                       &locks_);
}

}  // namespace kiln::daemon
