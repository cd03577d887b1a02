#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "store/layer/byte_stream.h"
#include "store/layer/tar_entry.h"
#include "store/layer/tar_header.h"

namespace kiln::store {

// Reads a tar archive as Go's archive/tar does, which judges what a layer means everywhere else:
// ustar, pax, GNU and star headers, sparse files of all GNU forms. Global pax headers are skipped;
// an unknown type is an error. Why not libarchive: DESIGN.md, Layers.
//
// Not thread-safe. Memory: one header record (kMaxTarRecordBytes) at most.
class TarReader {
 public:
  // `in` outlives the reader.
  explicit TarReader(ByteStream* in) : in_(in) {}

  // The next entry; false at the end: two zero blocks, or the end of the stream between entries.
  // kDataLoss: damaged or cut short; kInvalidArgument: a type that no layer may have.
  absl::StatusOr<bool> Next(TarEntry* entry);

  // The next piece of the entry's stored bytes, of at most `limit`; empty at their end.
  absl::StatusOr<absl::string_view> Data(int64_t limit = INT32_MAX);

  // Reads what is left of the stream after the last entry, so that its digest covers all of it.
  absl::Status Drain();

  // Told every byte of the stream, in order, as it is used. Set before the first call.
  void SetTap(ByteSink tap) { tap_ = std::move(tap); }

  // Bytes of the stream that were used so far.
  int64_t position() const { return position_; }

 private:
  absl::StatusOr<absl::string_view> Take(size_t limit);
  absl::StatusOr<bool> ReadBlock(char* block);
  absl::Status SkipEntry();
  absl::StatusOr<std::string> ReadRecord(int64_t size, const char* what);
  absl::Status Fill(const TarHeaderFields& fields, const PaxRecords& pax, TarEntry* entry);
  absl::Status ReadOldSparseMap(absl::string_view block, TarEntry* entry);
  absl::Status ReadPaxSparse(const PaxRecords& pax, TarEntry* entry);
  absl::Status ReadSparseMapInData(TarEntry* entry);
  absl::Status CheckExtents(TarEntry* entry) const;

  ByteStream* const in_;
  ByteSink tap_;
  absl::string_view piece_;  // what is left of the stream's current piece
  int64_t position_ = 0;
  int64_t left_ = 0;     // stored bytes of the current entry not handed out yet
  int64_t padding_ = 0;  // bytes after them, up to the next block
};

}  // namespace kiln::store
