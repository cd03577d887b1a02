#include "store/fsutil/directory_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "store/base/status_macros.h"

namespace kiln::fsutil {
namespace {

// "/a/./b/../c" -> "a/c"; ".." stays inside; "." for the root.
std::string CleanRelative(absl::string_view path) {
  std::vector<absl::string_view> parts;
  for (absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
      continue;
    }
    parts.push_back(part);
  }
  return parts.empty() ? "." : absl::StrJoin(parts, "/");
}

std::pair<std::string, std::string> SplitLast(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// Follows symlink chains inside one root (fsutil's followpaths).
class LinkFollower {
 public:
  explicit LinkFollower(int root_fd) : root_fd_(root_fd) {}

  absl::Status Add(absl::string_view path) {
    // A work list, not recursion: chains of links may be long.
    std::vector<std::string> pending = {CleanRelative(path)};
    while (!pending.empty()) {
      const std::string next = std::move(pending.back());
      pending.pop_back();
      KILN_RETURN_IF_ERROR(AddOne(next, &pending));
    }
    return absl::OkStatus();
  }

  std::set<std::string> resolved;

 private:
  absl::Status AddOne(const std::string& path, std::vector<std::string>* pending) {
    const std::vector<std::string> parts = absl::StrSplit(path, '/');
    std::string current;
    for (size_t i = 0; i < parts.size(); ++i) {
      absl::StrAppend(&current, current.empty() ? "" : "/", parts[i]);
      KILN_ASSIGN_OR_RETURN(const std::vector<std::string> targets, ReadLinks(current));
      const bool last = i + 1 == parts.size();
      if (!last && targets.empty()) continue;
      if (!resolved.insert(current).second) return absl::OkStatus();
      const std::string rest =
          absl::StrJoin(parts.begin() + static_cast<ptrdiff_t>(i) + 1, parts.end(), "/");
      for (const std::string& target : targets)
        pending->push_back(CleanRelative(absl::StrCat(target, "/", rest)));
      return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  // Targets, from the root, of the links that `path` names; its last component may be a pattern.
  absl::StatusOr<std::vector<std::string>> ReadLinks(const std::string& path) {
    const auto [dir, base] = SplitLast(path);
    std::vector<std::string> targets;
    if (!HasWildcards(base)) {
      KILN_RETURN_IF_ERROR(ReadLink(dir, path, &targets));
      return targets;
    }
    const int fd = ::openat(root_fd_, dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
      if (errno == ENOENT || errno == ENOTDIR) return targets;
      return ErrnoStatus(errno, absl::StrCat("open ", dir));
    }
    const Fd owned(fd);
    KILN_ASSIGN_OR_RETURN(auto cursor, DirectoryCursor::Open(absl::StrCat("/proc/self/fd/", fd)));
    for (;;) {
      KILN_ASSIGN_OR_RETURN(const bool more, cursor->Next());
      if (!more) return targets;
      cursor->SkipChildren();
      KILN_ASSIGN_OR_RETURN(const bool match, MatchPath(base, cursor->path()));
      if (match)
        KILN_RETURN_IF_ERROR(ReadLink(
            dir, dir == "." ? cursor->path() : absl::StrCat(dir, "/", cursor->path()), &targets));
    }
  }

  absl::Status ReadLink(const std::string& dir, const std::string& path,
                        std::vector<std::string>* targets) {
    char buffer[4096];  // PATH_MAX bounds a link's target
    const ssize_t n = ::readlinkat(root_fd_, path.c_str(), buffer, sizeof buffer);
    if (n < 0) {
      // EINVAL: not a link. Missing paths are kept as they are.
      if (errno == EINVAL || errno == ENOENT || errno == ENOTDIR) return absl::OkStatus();
      return ErrnoStatus(errno, absl::StrCat("readlink ", path));
    }
    const absl::string_view target(buffer, static_cast<size_t>(n));
    targets->push_back(absl::StartsWith(target, "/")
                           ? CleanRelative(target)
                           : CleanRelative(absl::StrCat(dir, "/", target)));
    return absl::OkStatus();
  }

  const int root_fd_;
};

// Leaves out what lies below the path before it; empty when the root is among them.
std::vector<std::string> DropCovered(const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    if (path == ".") return {};
    if (!out.empty() && absl::StartsWith(path, absl::StrCat(out.back(), "/"))) continue;
    out.push_back(path);
  }
  return out;
}

}  // namespace

absl::StatusOr<std::optional<std::vector<std::string>>> FollowLinks(
    const std::string& root, const std::vector<std::string>& paths) {
  KILN_ASSIGN_OR_RETURN(const Fd root_fd, OpenFile(root, O_RDONLY | O_DIRECTORY));
  LinkFollower follower(root_fd.get());
  for (const std::string& path : paths)
    KILN_RETURN_IF_ERROR(Annotate(follower.Add(path), absl::StrCat("follow ", path)));
  std::vector<std::string> sorted(follower.resolved.begin(), follower.resolved.end());
  if (follower.resolved.contains(".")) return std::optional<std::vector<std::string>>();
  return std::make_optional(DropCovered(sorted));
}

absl::StatusOr<std::unique_ptr<DirectorySource>> DirectorySource::Create(
    const std::string& root, const FilterOptions& filter, const CancelToken& cancel) {
  KILN_ASSIGN_OR_RETURN(Fd root_fd, OpenFile(root, O_RDONLY | O_DIRECTORY));
  std::unique_ptr<DirectorySource> source(new DirectorySource(root, std::move(root_fd), cancel));
  std::vector<std::string> includes = filter.include_patterns;
  if (!filter.follow_paths.empty()) {
    KILN_ASSIGN_OR_RETURN(auto followed, FollowLinks(root, filter.follow_paths));
    if (followed.has_value()) {
      includes.insert(includes.end(), followed->begin(), followed->end());
      includes = DropCovered(includes);
    }
  }
  if (!includes.empty()) {
    KILN_ASSIGN_OR_RETURN(PatternMatcher matcher,
                          Annotate(PatternMatcher::Create(includes), "invalid includepatterns"));
    source->include_ = std::move(matcher);
  }
  if (!filter.exclude_patterns.empty()) {
    KILN_ASSIGN_OR_RETURN(
        PatternMatcher matcher,
        Annotate(PatternMatcher::Create(filter.exclude_patterns), "invalid excludepatterns"));
    source->exclude_ = std::move(matcher);
  }
  return source;
}

DirectorySource::Verdict DirectorySource::Judge(const std::string& path, bool is_dir,
                                                Parent* self) const {
  const Parent* parent = parents_.empty() ? nullptr : &parents_.back();
  static const PatternMatchInfo* const kUnknown = new PatternMatchInfo();
  Verdict verdict = Verdict::kSend;
  if (include_.has_value() && !include_->MatchesUsingParentResults(
                                  path, parent ? parent->include : *kUnknown, &self->include)) {
    if (is_dir && !include_->MayMatchBelow(path, self->include)) return Verdict::kPrune;
    verdict = Verdict::kSkip;
  }
  if (exclude_.has_value() && exclude_->MatchesUsingParentResults(
                                  path, parent ? parent->exclude : *kUnknown, &self->exclude)) {
    if (is_dir && !exclude_->ExceptionMayMatchBelow(path)) return Verdict::kPrune;
    verdict = Verdict::kSkip;
  }
  return verdict;
}

absl::Status DirectorySource::SendParents(const std::function<absl::Status(Stat* stat)>& visit) {
  for (Parent& parent : parents_) {
    if (parent.sent) continue;
    parent.sent = true;
    KILN_RETURN_IF_ERROR(visit(&parent.stat));
  }
  return absl::OkStatus();
}

absl::Status DirectorySource::Walk(const std::function<absl::Status(Stat* stat)>& visit) {
  const bool filtered = include_.has_value() || exclude_.has_value();
  KILN_ASSIGN_OR_RETURN(auto cursor, DirectoryCursor::Open(root_));
  Stat stat;
  for (;;) {
    if (cancel_.Cancelled()) return cancel_.status();
    absl::StatusOr<bool> more = cursor->Next();
    if (!more.ok()) {
      // A directory that is not sent may be closed to us (wire.md 3.1).
      if (absl::IsPermissionDenied(more.status()) && !parents_.empty() && !parents_.back().sent)
        continue;
      return more.status();
    }
    if (!*more) return absl::OkStatus();
    const std::string& path = cursor->path();
    while (!parents_.empty() && !absl::StartsWith(path, parents_.back().prefix))
      parents_.pop_back();
    Parent self;
    Verdict verdict = Verdict::kSend;
    if (filtered) verdict = Judge(path, cursor->is_dir(), &self);
    if (verdict == Verdict::kPrune) cursor->SkipChildren();
    if (verdict == Verdict::kPrune || (verdict == Verdict::kSkip && !cursor->is_dir())) continue;

    KILN_ASSIGN_OR_RETURN(const bool exists, cursor->Load(&stat));
    if (!exists) {
      cursor->SkipChildren();
      continue;
    }
    cursor->LoadXattrs(&stat);
    if (verdict == Verdict::kSend) {
      KILN_RETURN_IF_ERROR(SendParents(visit));
      KILN_RETURN_IF_ERROR(visit(&stat));
    }
    if (filtered && cursor->is_dir()) {
      self.sent = verdict == Verdict::kSend;
      self.prefix = absl::StrCat(path, "/");
      if (!self.sent) self.stat = stat;
      parents_.push_back(std::move(self));
    }
  }
}

absl::StatusOr<Fd> DirectorySource::Open(const std::string& path) {
  // Non-blocking: should a pipe have taken the file's place, the open must not hang.
  KILN_ASSIGN_OR_RETURN(
      Fd fd, OpenFileAt(root_fd_.get(), path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, absl::StrCat("stat ", path));
  if (!S_ISREG(st.st_mode))
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file any more"));
  return fd;
}

}  // namespace kiln::fsutil
