#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/digest.h"
#include "store/base/cancel.h"
#include "store/checksum.h"
#include "store/tree.h"

namespace kiln::store {

// One checksum request on one tree: makes digests of single entries and whole directories, with
// the help of what the tables of the layers know. Lives for the request; not thread-safe.
class ChecksumRun {
 public:
  ChecksumRun(ChecksumStore* store, const Layers& layers, const CancelToken& cancel);

  const TreeReader& tree() const { return tree_; }

  // Of a path: a file's digest, or a directory's with all below. kNotFound `"P": not found`.
  absl::StatusOr<Digest> Path(absl::string_view path, bool follow);
  // Of an entry alone: content counts for files, for directories the header only.
  absl::StatusOr<Digest> Single(int layer, const std::string& path);
  // Of a directory with all below.
  absl::StatusOr<Digest> Recursive(const DirView& dir);

  // Saves what the tables learned.
  void Save();

 private:
  ChecksumTable& Table(int layer);
  absl::StatusOr<Digest> Hash(const std::string& host, const std::string& path);
  absl::StatusOr<Digest> HashDirectory(const DirView& dir);

  ChecksumStore* const store_;
  const TreeReader tree_;
  const CancelToken cancel_;
  std::vector<std::shared_ptr<ChecksumTable>> tables_;  // by layer; null until used
  std::vector<uint64_t> stack_ids_;                     // by layer: of it and all below
};

// The digest of everything that wildcards and patterns select.
absl::StatusOr<Digest> ChecksumOfSelection(ChecksumRun& run, absl::string_view path,
                                           const ChecksumOptions& options);

}  // namespace kiln::store
