#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/attest/attestation.h"
#include "store/base/cancel.h"
#include "store/fsutil/file_source.h"

namespace kiln::daemon {

// How the files of one platform's attestations are named.
struct AttestationNames {
  std::string prefix;
  std::string platform;  // "" when it is not part of the names
};

// The in-toto statements of a tree that is exported as files: by name, indented JSON. Attestations
// without subjects of their own are about every regular file of `tree`, which is read for that.
// Inline-only ones are left out. kInvalidArgument for two of one name. Blocks.
absl::StatusOr<std::map<std::string, std::string>> AttestationFiles(
    const std::vector<Attestation>& attestations, const AttestationNames& names,
    fsutil::FileSource& tree, const CancelToken& cancel);

// A tree with more files at its top, mode 0600. They win over what has the same name in the tree,
// as in BuildKit; a directory of that name is an error.
class TreeWithFiles : public fsutil::FileSource {
 public:
  TreeWithFiles(std::unique_ptr<fsutil::FileSource> tree, std::map<std::string, std::string> files,
                absl::Time modified)
      : tree_(std::move(tree)), files_(std::move(files)), modified_(modified) {}

  absl::Status Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) override;
  absl::StatusOr<Fd> Open(const std::string& path) override;

 private:
  const std::unique_ptr<fsutil::FileSource> tree_;
  const std::map<std::string, std::string> files_;
  const absl::Time modified_;
};

}  // namespace kiln::daemon
