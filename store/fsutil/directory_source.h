#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"
#include "store/base/pattern_matcher.h"
#include "store/fsutil/directory_cursor.h"
#include "store/fsutil/file_source.h"

namespace kiln::fsutil {

// Which entries of a directory are sent (wire.md 3.1).
struct FilterOptions {
  // Not empty: only what matches one of them (or lies below a match), with the directories on the
  // way to it. .dockerignore syntax.
  std::vector<std::string> include_patterns = {};
  // What matches is left out, unless a later "!" pattern takes it back in.
  std::vector<std::string> exclude_patterns = {};
  // Paths whose symlink chains are resolved inside the root and added to the include patterns.
  std::vector<std::string> follow_paths = {};
};

// Resolves `paths` and every symlink on their way inside `root`: the sorted list of include
// patterns that brings them and what they point to; wildcards are allowed in each component.
// Missing paths stay as they are. nullopt when the root itself is among them: no filter at all.
absl::StatusOr<std::optional<std::vector<std::string>>> FollowLinks(
    const std::string& root, const std::vector<std::string>& paths);

// Sends the entries of a directory on disk. Entries that vanish during the walk are skipped.
class DirectorySource : public FileSource {
 public:
  // Resolves follow_paths at once. kNotFound for a missing root; kInvalidArgument names a malformed
  // pattern. `cancel` ends a walk between two entries.
  static absl::StatusOr<std::unique_ptr<DirectorySource>> Create(const std::string& root,
                                                                 const FilterOptions& filter,
                                                                 const CancelToken& cancel = {});

  absl::Status Walk(const std::function<absl::Status(Stat* stat)>& visit) override;
  absl::StatusOr<Fd> Open(const std::string& path) override;

 private:
  // A directory on the way to the current entry.
  struct Parent {
    std::string prefix;  // "a/b/"
    PatternMatchInfo include, exclude;
    bool sent = false;
    Stat stat;  // loaded when it was sent late
  };
  enum class Verdict { kSend, kSkip, kPrune };

  DirectorySource(std::string root, Fd root_fd, CancelToken cancel)
      : root_(std::move(root)), root_fd_(std::move(root_fd)), cancel_(std::move(cancel)) {}
  Verdict Judge(const std::string& path, bool is_dir, Parent* self) const;
  absl::Status SendParents(const std::function<absl::Status(Stat* stat)>& visit);

  const std::string root_;
  Fd root_fd_;
  const CancelToken cancel_;
  std::optional<PatternMatcher> include_, exclude_;
  std::vector<Parent> parents_;
};

}  // namespace kiln::fsutil
