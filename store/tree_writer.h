#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "store/tree.h"

namespace kiln::store {

// Metadata to give an entry; absent members keep what is there or the default.
struct Attributes {
  // The initializers let some be named and the rest left out: {.mode = 0755}.
  std::optional<uint32_t> uid = std::nullopt, gid = std::nullopt;
  std::optional<uint32_t> mode = std::nullopt;  // permission bits with suid, sgid, sticky
  std::optional<absl::Time> mtime = std::nullopt;
};

// A file whose bytes are still coming. Dropping it before Close() leaves no file behind. Append may
// run on another thread than the writer's calls, Close not. One user at a time.
class TreeFile {
 public:
  virtual ~TreeFile() = default;
  virtual absl::Status Append(absl::string_view data) = 0;
  // Puts the file in its place with its attributes; the writer must still exist.
  virtual absl::Status Close() = 0;
};

// TreeWriter changes a tree by writing into its topmost layer only, as overlayfs would: parents are
// copied up with their metadata, deletions leave whiteouts where a lower layer has the name, files
// are never changed in place when another snapshot may share the inode.
//
// Paths are absolute inside the tree and resolved by the caller (TreeReader::Resolve); a symlink in
// a parent position is refused with kInvalidArgument. Content checksums of what passes through are
// recorded as they are written. Not thread-safe. May block. The reader sees every change at once.
class TreeWriter {
 public:
  virtual ~TreeWriter() = default;

  // The whole tree, lower layers and this one.
  virtual const TreeReader& reader() const = 0;

  // kAlreadyExists when the name exists.
  virtual absl::Status MakeDir(absl::string_view path, const Attributes& attributes) = 0;
  virtual absl::Status MakeSymlink(absl::string_view path, absl::string_view target,
                                   const Attributes& attributes) = 0;
  // Creates or replaces (never through a link or a shared inode). `mode` defaults to 0644.
  virtual absl::Status WriteFile(absl::string_view path, absl::string_view data,
                                 const Attributes& attributes) = 0;
  // The same for content that arrives in pieces; several may be open at once. `expected_size` is a
  // hint (the checksum header carries the size before the bytes); -1: unknown.
  virtual absl::StatusOr<std::unique_ptr<TreeFile>> CreateFile(absl::string_view path,
                                                               int64_t expected_size,
                                                               const Attributes& attributes) = 0;
  // Devices and fifos; `type_and_mode` as for mknod(2).
  virtual absl::Status MakeNode(absl::string_view path, uint32_t type_and_mode, uint64_t device,
                                const Attributes& attributes) = 0;
  // A second name for a file that this writer's tree already has.
  virtual absl::Status MakeHardlink(absl::string_view path, absl::string_view existing) = 0;

  // Takes a regular file from another immutable tree: a hardlink where every metadata bit agrees
  // and the file system allows it, else a reflink or copy. xattrs come along.
  virtual absl::Status CopyFile(const TreeReader& from, absl::string_view from_path,
                                const Entry& entry, absl::string_view path,
                                const Attributes& attributes) = 0;

  // The same for a name that the whole tree does not have, as the caller has just seen: lower
  // layers are not asked again.
  virtual absl::Status CopyNewFile(const TreeReader& from, absl::string_view from_path,
                                   const Entry& entry, absl::string_view path,
                                   const Attributes& attributes) = 0;

  // Removes recursively. kNotFound when absent.
  virtual absl::Status Remove(absl::string_view path) = 0;

  virtual absl::Status SetAttributes(absl::string_view path, const Attributes& attributes) = 0;
  virtual absl::Status SetXattr(absl::string_view path, const std::string& name,
                                absl::string_view value) = 0;
};

class ChecksumRecorder;

// A writer into `upper_dir`, an existing directory, on top of `lower` (lowest first).
//
// `overlay_form`: deletions and replaced directories leave overlayfs marks (whiteouts by mknod,
// trusted.overlay.opaque; both need root), and files are hardlinked from immutable snapshots. Such
// a tree must be committed before it is ever mounted writable: a process would change the shared
// inode. Without it `lower` must be empty and files are always copied.
//
// `recorder` may be null and outlives the writer. Errors name the path; a full disk is
// kResourceExhausted.
std::unique_ptr<TreeWriter> NewTreeWriter(Layers lower, std::string upper_dir, bool overlay_form,
                                          ChecksumRecorder* recorder);

}  // namespace kiln::store
