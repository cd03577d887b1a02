#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/source/git_command.h"
#include "daemon/source/git_spec.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// What a ref of a remote stands for.
struct GitResolved {
  std::string ref;     // full name, or the commit itself
  std::string object;  // the tag object or the commit
  std::string peeled;  // the commit of an annotated tag; "" otherwise

  const std::string& commit() const { return peeled.empty() ? object : peeled; }
};

// Asks the remote what `spec.ref` (or its default branch) is. A name is looked for as the full
// ref, then as a branch, then as a tag.
absl::StatusOr<GitResolved> ResolveGitRef(const GitCommand& git, const GitSpec& spec);

// The same for the refs that a bundle file has. Imports it into the bare repository `git.git_dir`,
// which keeps its refs under "refs/kiln/bundles/NAME/". kNotFound names the commit that the spec
// pins when the bundle has not got it.
absl::StatusOr<GitResolved> ImportGitBundle(const GitCommand& git, const GitSpec& spec,
                                            const std::string& file, const std::string& name);

bool HasGitCommit(const GitCommand& git, const std::string& sha);

// Length of the object names in a bundle, 40 or 64.
absl::StatusOr<size_t> BundleNameLength(const GitCommand& git, const std::string& file);

// Makes sure that the bare repository `git.git_dir` has the commit that `resolved` names, under
// the name that checkouts use. kAborted when only a fresh repository can help: a tag was moved, or
// a branch took the name of a folder of branches. A bundle of the spec must have been imported.
absl::Status FetchGit(const GitCommand& git, const GitSpec& spec, const GitResolved& resolved);

// A commit or tag as git keeps it (git-cat-file), out of the repository. kNotFound.
absl::StatusOr<std::string> ReadGitObject(const GitCommand& git, absl::string_view type,
                                          const std::string& sha);

// When the commit was made, by its object; nullopt when that does not say.
std::optional<absl::Time> CommitTime(absl::string_view commit_object);

// Fills the empty directory `dir` from the repository; with checkout_bundle by the one file
// "bundle".
absl::Status CheckOutGit(const GitCommand& git, const GitSpec& spec, const GitResolved& resolved,
                         const std::string& dir);

}  // namespace kiln::daemon
