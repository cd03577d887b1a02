#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "store/layer/byte_stream.h"

namespace kiln::store {

// How the bytes of a layer are stored, by their first bytes.
enum class Packing { kPlain, kGzip, kZstd };
// At least four bytes tell; fewer are plain.
Packing DetectPacking(absl::string_view first_bytes);

// The content of a file from its start.
std::unique_ptr<ByteStream> NewFileStream(Fd file);

// The unpacked bytes of `in`: gzip of any number of members, zstd of any number of frames, or
// anything else as it is. kDataLoss: damaged, cut short, or followed by something else.
// kInvalidArgument: zstd with a window above 128 MiB.
// `in` outlives the stream. Memory is bounded: 256 KiB and the window.
absl::StatusOr<std::unique_ptr<ByteStream>> NewDecompressor(ByteStream* in);

// Hands on what comes from `in` and hashes it. `in` outlives the stream.
class HashingStream final : public ByteStream {
 public:
  explicit HashingStream(ByteStream* in) : in_(in) {}
  absl::StatusOr<absl::string_view> Next() override;
  // Of everything so far; call once.
  Digest Finish() { return hash_.Finish(); }
  int64_t size_bytes() const { return size_bytes_; }

 private:
  ByteStream* const in_;
  Sha256 hash_;
  int64_t size_bytes_ = 0;
};

}  // namespace kiln::store
