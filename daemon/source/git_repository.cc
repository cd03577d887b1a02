#include "daemon/source/git_repository.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/fsutil/directory_cursor.h"
#include "store/fsutil/directory_target.h"

namespace kiln::daemon {
namespace {

bool Exists(const std::string& path) {
  struct stat st;
  return ::lstat(path.c_str(), &st) == 0;
}

absl::StatusOr<std::string> DefaultBranch(const GitCommand& git, const GitSpec& spec) {
  KILN_ASSIGN_OR_RETURN(
      const std::string out,
      Annotate(git.Run({"ls-remote", "--symref", "--", spec.remote, "HEAD"}),
               absl::StrCat("error fetching default branch for repository ", spec.redacted())));
  for (absl::string_view line : absl::StrSplit(out, '\n')) {
    // "ref: refs/heads/main\tHEAD"
    if (!absl::ConsumePrefix(&line, "ref: refs/heads/")) continue;
    const absl::string_view name = line.substr(0, line.find('\t'));
    if (!name.empty() && name.front() != '-') return std::string(name);
  }
  return absl::NotFoundError(
      absl::StrCat("could not find default branch for repository: ", spec.redacted()));
}

// The short name that fetches and checkouts use.
std::string WorkingRef(const GitSpec& spec, const GitResolved& resolved) {
  if (!spec.ref.empty()) return spec.ref;
  return std::string(absl::StripPrefix(resolved.ref, "refs/heads/"));
}

bool NeedsFreshRepository(absl::string_view said) {
  for (const char* text : {"would clobber existing tag", "some local refs could not be updated",
                           "not a git repository", "is corrupt", "bad object"}) {
    if (absl::StrContains(said, text)) return true;
  }
  return false;
}

absl::Status Fetch(const GitCommand& git, const GitSpec& spec, std::vector<std::string> args) {
  const absl::Status status = git.RunLogged(std::move(args)).status();
  if (status.ok() || git.cancel.Cancelled()) return status;
  const std::string what = absl::StrCat("failed to fetch remote ", spec.redacted());
  if (NeedsFreshRepository(status.message()))
    return absl::AbortedError(absl::StrCat(what, ": ", status.message()));
  return Annotate(status, what);
}

// The whole history, for a commit that no name points to.
absl::Status FetchHistory(const GitCommand& git, const GitSpec& spec, const std::string& sha) {
  std::vector<std::string> args = {"fetch", "--tags"};
  if (Exists(absl::StrCat(git.git_dir, "/shallow"))) args.push_back("--unshallow");
  args.insert(args.end(), {"origin", sha});
  return Fetch(git, spec, std::move(args));
}

// A regular ref: shallow, and kept under refs/tags/ so that later fetches advertise it.
absl::Status FetchRef(const GitCommand& git, const GitSpec& spec, const GitResolved& resolved) {
  const std::string ref = WorkingRef(spec, resolved);
  const std::string target =
      absl::StartsWith(ref, "refs/tags/") ? ref : absl::StrCat("refs/tags/", ref);
  KILN_RETURN_IF_ERROR(Fetch(git, spec,
                             {"fetch", "--depth=1", "--no-tags", "origin", "--force", "--",
                              absl::StrCat(ref, ":", target)}));
  KILN_ASSIGN_OR_RETURN(const std::string now, git.Run({"rev-parse", "--verify", target}));
  if (absl::StripAsciiWhitespace(now) == resolved.object) return absl::OkStatus();
  // It moved after the key was made: the key's commit is what must be delivered.
  if (!git.Run({"cat-file", "-e", resolved.object}).ok())
    KILN_RETURN_IF_ERROR(FetchHistory(git, spec, resolved.object));
  if (!git.Run({"cat-file", "-e", resolved.object}).ok())
    return absl::FailedPreconditionError(
        absl::StrCat("fetched ref ", ref, " does not match expected commit ", resolved.object,
                     " and commit can not be found in the repository"));
  return git.Run({"update-ref", "--no-deref", target, resolved.object}).status();
}

// The remote's word for what a tag stands for is part of keys.
absl::Status VerifyPeeled(const GitCommand& git, const GitResolved& resolved) {
  if (resolved.peeled.empty()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const std::string out,
                        git.Run({"rev-parse", absl::StrCat(resolved.object, "^{}")}));
  if (absl::StripAsciiWhitespace(out) == resolved.peeled) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("tag ", resolved.object, " is of ",
                                          absl::StripAsciiWhitespace(out), ", not of ",
                                          resolved.peeled, " as the remote says"));
}

absl::Status VerifyChecksum(const GitCommand& git, const GitSpec& spec,
                            const GitResolved& resolved) {
  if (spec.checksum.empty() || absl::StartsWith(resolved.object, spec.checksum))
    return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const std::string out,
                        git.Run({"rev-parse", absl::StrCat(resolved.object, "^{commit}")}));
  const absl::string_view commit = absl::StripAsciiWhitespace(out);
  if (absl::StartsWith(commit, spec.checksum)) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("expected checksum to match ", spec.checksum,
                                                    ", got ", resolved.object, " or ", commit));
}

// Finds `ref` among the lines of ls-remote.
absl::StatusOr<GitResolved> PickRef(absl::string_view lines, const GitSpec& spec,
                                    absl::string_view ref) {
  const std::string full = absl::StrCat("refs/", absl::StripPrefix(ref, "refs/"));
  const std::string head = absl::StrCat("refs/heads/", absl::StripPrefix(ref, "refs/heads/"));
  const std::string tag = absl::StrCat("refs/tags/", absl::StripPrefix(ref, "refs/tags/"));
  std::string full_sha, head_sha, tag_sha, peeled;
  for (absl::string_view line : absl::StrSplit(lines, '\n')) {
    const std::pair<std::string, std::string> entry =
        absl::StrSplit(line, absl::MaxSplits('\t', 1));
    if (entry.second == head) head_sha = entry.first;
    if (entry.second == tag) tag_sha = entry.first;
    if (entry.second == absl::StrCat(tag, "^{}")) peeled = entry.first;
    if (entry.second == full) full_sha = entry.first;
  }
  GitResolved resolved;
  if (!full_sha.empty()) {
    resolved = {full, full_sha, full == tag ? peeled : ""};
  } else if (!head_sha.empty()) {
    resolved = {head, head_sha, ""};
  } else if (!tag_sha.empty()) {
    resolved = {tag, tag_sha, peeled};
  } else {
    return absl::NotFoundError(
        absl::StrCat("repository ", spec.redacted(), " does not contain ref ", ref));
  }
  if (!IsCommitSha(resolved.object))
    return absl::DataLossError(absl::StrCat("invalid commit sha \"", resolved.object, "\""));
  return resolved;
}

// The parents of some commit of its history are missing.
absl::StatusOr<bool> IsShallow(const GitCommand& git, const std::string& sha) {
  const std::string file = absl::StrCat(git.git_dir, "/shallow");
  if (!Exists(file)) return false;
  KILN_ASSIGN_OR_RETURN(const std::string ends, ReadFileToString(file));
  KILN_ASSIGN_OR_RETURN(const std::string reached,
                        git.Run({"rev-list", "--max-parents=0", absl::StrCat(sha, "^{commit}")}));
  for (absl::string_view end : absl::StrSplit(reached, '\n', absl::SkipEmpty()))
    if (absl::StrContains(ends, end)) return true;
  return false;
}

// For a bundle: all that the commit stands on.
absl::Status FetchWholeHistory(const GitCommand& git, const GitSpec& spec, const std::string& sha) {
  const auto is_whole = [&]() -> absl::StatusOr<bool> {
    if (!HasGitCommit(git, sha)) return false;
    KILN_ASSIGN_OR_RETURN(const bool shallow, IsShallow(git, sha));
    return !shallow;
  };
  KILN_ASSIGN_OR_RETURN(bool whole, is_whole());
  if (whole) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(FetchHistory(git, spec, sha));
  KILN_ASSIGN_OR_RETURN(whole, is_whole());
  if (whole) return absl::OkStatus();
  if (HasGitCommit(git, sha))
    return absl::AbortedError(absl::StrCat("the history of ", sha, " is incomplete"));
  return absl::NotFoundError(
      absl::StrCat("commit ", sha, " can not be found in the repository ", spec.redacted()));
}

// ---- checkout ----

absl::Status CheckOutBundle(const GitCommand& repo, const GitSpec& spec,
                            const GitResolved& resolved, const std::string& dir) {
  // A repository of its own, over the shared one's objects: that one has other names.
  GitCommand git = repo;
  git.config.clear();
  git.git_dir = absl::StrCat(dir, "/.kiln-bundle");
  std::vector<std::string> init = {"-c", "init.defaultBranch=kiln", "init", "--bare"};
  if (resolved.object.size() == 64) init.push_back("--object-format=sha256");
  KILN_RETURN_IF_ERROR(git.Run(init).status());
  KILN_RETURN_IF_ERROR(WriteFileAtomic(absl::StrCat(git.git_dir, "/objects/info/alternates"),
                                       absl::StrCat(repo.git_dir, "/objects\n")));
  const std::string ref = spec.bundle_ref();
  const std::string& tip =
      absl::StartsWith(ref, "refs/tags/") ? resolved.object : resolved.commit();
  KILN_RETURN_IF_ERROR(git.Run({"update-ref", ref, tip}).status());
  KILN_RETURN_IF_ERROR(
      git.RunLogged({"bundle", "create", absl::StrCat(dir, "/bundle"), ref}).status());
  return fsutil::RemoveTree(AT_FDCWD, git.git_dir);
}

absl::Status CheckOutFiles(const GitCommand& repo, const GitResolved& resolved,
                           const std::string& dir) {
  GitCommand git = repo;
  git.work_tree = dir;
  // What another checkout left in the shared index must not count.
  if (::unlink(absl::StrCat(repo.git_dir, "/index").c_str()) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, "remove the git index");
  KILN_RETURN_IF_ERROR(git.Run({"read-tree", absl::StrCat(resolved.object, "^{tree}")}).status());
  return git.RunLogged({"checkout-index", "--all", "--force"}).status();
}

// A clone with its own .git, made over the file protocol: git's shortcut for local paths could
// bring files of the host along.
absl::Status CheckOutWithGitDir(const GitCommand& repo, const GitSpec& spec,
                                const GitResolved& resolved, const std::string& dir) {
  GitCommand git = repo;
  git.config.clear();
  git.work_tree = dir;
  git.git_dir = absl::StrCat(dir, "/.git");
  std::vector<std::string> init = {"-c", "init.defaultBranch=master", "init"};
  if (resolved.object.size() == 64) init.push_back("--object-format=sha256");
  KILN_RETURN_IF_ERROR(git.Run(init).status());
  KILN_RETURN_IF_ERROR(
      git.Run({"remote", "add", "origin", absl::StrCat("file://", repo.git_dir)}).status());

  const std::string ref = WorkingRef(spec, resolved);
  std::string pull;
  if (!resolved.peeled.empty() && !spec.fetch_by_commit && spec.bundle.empty()) {
    pull = absl::StartsWith(ref, "refs/tags/") ? absl::StrCat(ref, ":", ref)
                                               : absl::StrCat(ref, ":refs/tags/", ref);
  } else if ((spec.fetch_by_commit || !spec.bundle.empty()) && !IsCommitSha(ref)) {
    const std::string name = absl::StrCat("refs/kiln/", resolved.object);
    KILN_RETURN_IF_ERROR(repo.Run({"update-ref", name, resolved.object}).status());
    pull = absl::StrCat(name, ":", resolved.ref);
  } else if (IsCommitSha(ref)) {
    pull = absl::StrCat("refs/kiln/", ref);
    KILN_RETURN_IF_ERROR(repo.Run({"update-ref", pull, ref}).status());
  } else {
    pull = absl::StrCat(ref, ":", ref);
  }
  KILN_RETURN_IF_ERROR(git.Run({"fetch", "-u", "--depth=1", "--", "origin", pull}).status());
  KILN_RETURN_IF_ERROR(git.RunLogged({"checkout", "-q", "FETCH_HEAD"}).status());
  KILN_RETURN_IF_ERROR(git.Run({"remote", "set-url", "origin", spec.redacted()}).status());
  KILN_RETURN_IF_ERROR(git.Run({"reflog", "expire", "--all", "--expire=now"}).status());
  const std::string fetch_head = absl::StrCat(git.git_dir, "/FETCH_HEAD");
  if (::unlink(fetch_head.c_str()) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, absl::StrCat("remove ", fetch_head));
  return absl::OkStatus();
}

// Submodules leave ".git" files that point into the daemon's repository.
absl::Status RemoveGitFiles(const std::string& dir) {
  KILN_ASSIGN_OR_RETURN(auto cursor, fsutil::DirectoryCursor::Open(dir));
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const bool more, cursor->Next());
    if (!more) return absl::OkStatus();
    if (cursor->is_dir() || !absl::EndsWith(cursor->path(), "/.git")) continue;
    const std::string path = absl::StrCat(dir, "/", cursor->path());
    if (::unlink(path.c_str()) != 0) return ErrnoStatus(errno, absl::StrCat("remove ", path));
  }
}

absl::Status UpdateSubmodules(const GitCommand& repo, const GitSpec& spec, const std::string& dir,
                              bool own_git_dir) {
  if (spec.skip_submodules || !Exists(absl::StrCat(dir, "/.gitmodules"))) return absl::OkStatus();
  GitCommand git = repo;
  git.work_tree = dir;
  if (own_git_dir) git.git_dir = absl::StrCat(dir, "/.git");
  const std::string what = absl::StrCat("failed to update submodules for ", spec.redacted());
  // The shared repository may remember where a submodule was in another commit.
  KILN_RETURN_IF_ERROR(Annotate(git.Run({"submodule", "sync", "--recursive"}).status(), what));
  KILN_RETURN_IF_ERROR(Annotate(
      git.RunLogged({"submodule", "update", "--init", "--recursive", "--depth=1"}).status(), what));
  return own_git_dir ? absl::OkStatus() : RemoveGitFiles(dir);
}

// Every component must be a real directory: a symlink could lead anywhere.
absl::Status CheckSubdir(const std::string& dir, const std::string& subdir) {
  std::string at = dir;
  for (absl::string_view part : absl::StrSplit(subdir, '/')) {
    absl::StrAppend(&at, "/", part);
    struct stat st;
    if (::lstat(at.c_str(), &st) != 0)
      return ErrnoStatus(errno, absl::StrCat("invalid subdir ", subdir));
    if (!S_ISDIR(st.st_mode))
      return absl::InvalidArgumentError(
          absl::StrCat("git subpath \"", subdir, "\" contains non-directory \"", part, "\""));
  }
  return absl::OkStatus();
}

// Moves what `subdir` of `from` holds into `to`.
absl::Status MoveSubdir(const std::string& from, const std::string& subdir, const std::string& to) {
  KILN_RETURN_IF_ERROR(CheckSubdir(from, subdir));
  const std::string inner = absl::StrCat(from, "/", subdir);
  KILN_ASSIGN_OR_RETURN(auto cursor, fsutil::DirectoryCursor::Open(inner));
  for (;;) {
    KILN_ASSIGN_OR_RETURN(const bool more, cursor->Next());
    if (!more) return absl::OkStatus();
    cursor->SkipChildren();
    const std::string source = absl::StrCat(inner, "/", cursor->path());
    const std::string target = absl::StrCat(to, "/", cursor->path());
    if (::rename(source.c_str(), target.c_str()) != 0)
      return ErrnoStatus(errno, absl::StrCat("rename ", cursor->path()));
  }
}

absl::Status SetAllTimes(const std::string& dir, int64_t seconds) {
  const struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
  KILN_ASSIGN_OR_RETURN(auto cursor, fsutil::DirectoryCursor::Open(dir));
  for (;;) {
    // Setting times changes no other time, so the order does not matter.
    KILN_ASSIGN_OR_RETURN(const bool more, cursor->Next());
    const std::string path = more ? absl::StrCat(dir, "/", cursor->path()) : dir;
    if (::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      return ErrnoStatus(errno, absl::StrCat("set time of ", path));
    if (!more) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<GitResolved> ResolveGitRef(const GitCommand& git, const GitSpec& spec) {
  std::string ref = spec.ref;
  if (ref.empty()) {
    KILN_ASSIGN_OR_RETURN(ref, DefaultBranch(git, spec));
  }
  KILN_ASSIGN_OR_RETURN(
      const std::string out,
      Annotate(git.Run({"ls-remote", "--", spec.remote, ref, absl::StrCat(ref, "^{}")}),
               absl::StrCat("failed to fetch remote ", spec.redacted())));
  return PickRef(out, spec, ref);
}

absl::Status FetchGit(const GitCommand& git, const GitSpec& spec, const GitResolved& resolved) {
  // Locks that a killed daemon left.
  for (const char* name : {"shallow.lock", "packed-refs.lock", "config.lock", "HEAD.lock"})
    (void)::unlink(absl::StrCat(git.git_dir, "/", name).c_str());
  if (!spec.bundle.empty()) {
    if (!HasGitCommit(git, resolved.object))
      return absl::NotFoundError(
          absl::StrCat("commit ", resolved.object, " not found in bundle ", spec.bundle));
  } else if (spec.checkout_bundle) {
    KILN_RETURN_IF_ERROR(FetchWholeHistory(git, spec, resolved.object));
  } else if (spec.fetch_by_commit || IsCommitSha(WorkingRef(spec, resolved))) {
    if (!HasGitCommit(git, resolved.object)) {
      absl::Status status =
          spec.fetch_by_commit
              ? Fetch(git, spec, {"fetch", "--depth=1", "--no-tags", "origin", resolved.object})
              : FetchHistory(git, spec, resolved.object);
      if (!status.ok()) return status;
    }
    if (!HasGitCommit(git, resolved.object))
      return absl::NotFoundError(absl::StrCat(
          "commit ", resolved.object, " can not be found in the repository ", spec.redacted()));
  } else {
    KILN_RETURN_IF_ERROR(FetchRef(git, spec, resolved));
  }
  KILN_RETURN_IF_ERROR(VerifyPeeled(git, resolved));
  return VerifyChecksum(git, spec, resolved);
}

bool HasGitCommit(const GitCommand& git, const std::string& sha) {
  return git.Run({"cat-file", "-e", absl::StrCat(sha, "^{commit}")}).ok();
}

absl::StatusOr<size_t> BundleNameLength(const GitCommand& git, const std::string& file) {
  GitCommand outside = git;
  outside.git_dir.clear();
  KILN_ASSIGN_OR_RETURN(const std::string out,
                        Annotate(outside.Run({"ls-remote", "--", file}), "inspect git bundle"));
  const std::string name = out.substr(0, out.find('\t'));
  if (IsCommitSha(name)) return name.size();
  return absl::InvalidArgumentError("inspect git bundle: no refs found");
}

absl::StatusOr<GitResolved> ImportGitBundle(const GitCommand& git, const GitSpec& spec,
                                            const std::string& file, const std::string& name) {
  const std::string kept = absl::StrCat("refs/kiln/bundles/", name, "/");
  KILN_RETURN_IF_ERROR(Annotate(
      git.RunLogged({"fetch", "--no-tags", file, absl::StrCat("+refs/*:", kept, "*")}).status(),
      absl::StrCat("failed to import git bundle ", spec.bundle)));
  if (!HasGitCommit(git, spec.checksum))
    return absl::NotFoundError(
        absl::StrCat("commit ", spec.checksum, " not found in bundle ", spec.bundle));
  if (spec.ref.empty() || IsCommitSha(spec.ref)) {
    const std::string& sha = spec.ref.empty() ? spec.checksum : spec.ref;
    return GitResolved{sha, sha, ""};
  }
  KILN_ASSIGN_OR_RETURN(
      const std::string out,
      git.Run({"for-each-ref", "--format=%(objectname)%09refs/%(refname:lstrip=4)", kept}));
  KILN_ASSIGN_OR_RETURN(GitResolved resolved, PickRef(out, spec, spec.ref));
  KILN_ASSIGN_OR_RETURN(const std::string peeled,
                        git.Run({"rev-parse", absl::StrCat(resolved.object, "^{}")}));
  if (absl::StripAsciiWhitespace(peeled) != resolved.object)
    resolved.peeled = std::string(absl::StripAsciiWhitespace(peeled));
  return resolved;
}

absl::Status CheckOutGit(const GitCommand& git, const GitSpec& spec, const GitResolved& resolved,
                         const std::string& dir) {
  const bool own_git_dir = spec.keep_git_dir && spec.subdir.empty();
  const std::string what = absl::StrCat("failed to checkout remote ", spec.redacted());
  std::string work_tree = dir;
  if (!spec.subdir.empty()) {
    work_tree = absl::StrCat(dir, "/.kiln-checkout-XXXXXX");
    if (::mkdtemp(work_tree.data()) == nullptr) return ErrnoStatus(errno, what);
  }
  if (spec.checkout_bundle) return Annotate(CheckOutBundle(git, spec, resolved, dir), what);
  KILN_RETURN_IF_ERROR(Annotate(own_git_dir ? CheckOutWithGitDir(git, spec, resolved, dir)
                                            : CheckOutFiles(git, resolved, work_tree),
                                what));
  KILN_RETURN_IF_ERROR(UpdateSubmodules(git, spec, work_tree, own_git_dir));
  if (!spec.subdir.empty()) {
    KILN_RETURN_IF_ERROR(MoveSubdir(work_tree, spec.subdir, dir));
    KILN_RETURN_IF_ERROR(fsutil::RemoveTree(AT_FDCWD, work_tree));
  }
  if (!spec.commit_mtime) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(
      const std::string out,
      git.Run({"log", "-1", "--format=%ct", absl::StrCat(resolved.object, "^{commit}")}));
  int64_t seconds = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(out), &seconds))
    return absl::DataLossError(absl::StrCat("failed to parse commit timestamp \"", out, "\""));
  return SetAllTimes(dir, seconds);
}

absl::StatusOr<std::string> ReadGitObject(const GitCommand& git, absl::string_view type,
                                          const std::string& sha) {
  return git.Run({"cat-file", std::string(type), sha});
}

// "committer NAME <MAIL> SECONDS ZONE", one of the lines before the first empty one.
std::optional<absl::Time> CommitTime(absl::string_view commit_object) {
  for (absl::string_view line : absl::StrSplit(commit_object, '\n')) {
    if (line.empty()) break;
    if (!absl::ConsumePrefix(&line, "committer ")) continue;
    const size_t mail_end = line.rfind('>');
    if (mail_end == absl::string_view::npos) break;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line.substr(mail_end + 1), ' ', absl::SkipEmpty());
    int64_t seconds = 0;
    if (words.empty() || !absl::SimpleAtoi(words[0], &seconds)) break;
    return absl::FromUnixSeconds(seconds);
  }
  return std::nullopt;
}

}  // namespace kiln::daemon
