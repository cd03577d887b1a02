#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kiln::store {

// Compresses a stream in blocks that do not wait for each other. What comes out depends on the
// bytes and the settings only. Thread-safe except Begin, Joined and End, which see the blocks of
// one stream in order.
class BlockCodec {
 public:
  struct Block {
    std::string input;
    std::string before;  // the end of the block before, history_bytes() at most
    bool last = false;
    std::string output;  // set by Compress
    uint32_t crc = 0;    // of the input, for codecs that need it
  };

  virtual ~BlockCodec() = default;
  virtual size_t block_bytes() const = 0;
  virtual size_t history_bytes() const { return 0; }
  virtual std::string Begin() { return {}; }
  virtual absl::Status Compress(Block* block) = 0;
  virtual void Joined(const Block&) {}
  virtual std::string End() { return {}; }
};

// One gzip member without name and time (RFC 1952; OS 255), whatever the size. `level` 0 to 9,
// nullopt: a fast one. kInvalidArgument for others.
absl::StatusOr<std::unique_ptr<BlockCodec>> NewGzipCodec(std::optional<int> level);
// gzip, one member for each block; for streams that are flushed, never finished.
absl::StatusOr<std::unique_ptr<BlockCodec>> NewGzipMemberCodec(std::optional<int> level);
// zstd, one frame for each block. `level` 1 to 22; -1, 0 and nullopt: the library's default, or
// level 1 for blocks of which that makes no more.
absl::StatusOr<std::unique_ptr<BlockCodec>> NewZstdCodec(std::optional<int> level);

}  // namespace kiln::store
