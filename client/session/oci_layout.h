#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/digest.h"
#include "store/base/fd.h"

namespace kiln::client {

// The blobs of an OCI image layout: a folder with blobs/sha256/… (OCI image-spec, image layout).
// Thread-safe; several processes may share a folder. Every method may block on disk.
class OciLayout {
 public:
  struct BlobInfo {
    int64_t size = 0;
    absl::Time modified;
  };
  class Writer;

  explicit OciLayout(std::string folder) : folder_(std::move(folder)) {}

  const std::string& folder() const { return folder_; }
  std::string BlobPath(const Digest& digest) const;

  // kNotFound, naming the digest, when the blob is not there.
  absl::StatusOr<BlobInfo> Info(const Digest& digest) const;
  absl::StatusOr<Fd> Open(const Digest& digest) const;
  absl::Status Remove(const Digest& digest) const;
  // All blobs; other files are passed over.
  absl::Status ForEach(const std::function<absl::Status(const Digest&)>& visit) const;
  // Makes the folders that are missing.
  absl::StatusOr<std::unique_ptr<Writer>> Write() const;

 private:
  const std::string folder_;
};

// A blob that is being written: a file of its own name until Commit; gone without it.
class OciLayout::Writer {
 public:
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  absl::Status Append(absl::string_view data);
  // Starts over.
  absl::Status Clear();
  int64_t size() const { return size_; }
  // Makes the bytes so far the blob of their digest, safe on disk. kFailedPrecondition when they
  // are not `total` (0: any) or not `expected` ("": any). Nothing can be written after it.
  absl::StatusOr<Digest> Commit(int64_t total, absl::string_view expected);

 private:
  friend class OciLayout;
  Writer(const OciLayout& layout, std::string path, Fd fd)
      : layout_(layout), path_(std::move(path)), fd_(std::move(fd)) {}

  const OciLayout layout_;
  std::string path_;  // "": committed
  Fd fd_;
  Sha256 hash_;
  int64_t size_ = 0;
};

}  // namespace kiln::client
