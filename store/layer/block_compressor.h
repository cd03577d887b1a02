#pragma once

#include <deque>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/layer/block_codec.h"
#include "store/layer/byte_stream.h"
#include "store/layer/compression_budget.h"

namespace kiln::store {

// Compresses what is appended, block by block on the budget's threads, and hands the result to
// `out` in order, on the caller's thread. Memory: the blocks of the budget. Not thread-safe.
class BlockCompressor {
 public:
  // `budget` outlives the compressor.
  BlockCompressor(CompressionBudget* budget, std::unique_ptr<BlockCodec> codec, ByteSink out);
  // Waits for the blocks under way.
  ~BlockCompressor();

  absl::Status Append(absl::string_view bytes);
  // Ends the block here, if it has any bytes: what follows begins another one.
  absl::Status Cut();
  // Cut, and hands out everything so far.
  absl::Status Flush();
  // Blocks ended so far; also the index of the one that is being filled.
  size_t blocks() const { return blocks_; }
  // Nothing may be appended afterwards.
  absl::Status Finish();

 private:
  struct Work;
  absl::Status Submit(bool last);
  absl::Status JoinFirst();

  CompressionBudget* const budget_;
  const std::unique_ptr<BlockCodec> codec_;
  const ByteSink out_;
  bool begun_ = false;
  size_t blocks_ = 0;
  std::string input_;        // the block being filled
  std::string before_;       // the end of the one before
  BlockCodec::Block spare_;  // the buffers of the last one that was handed out
  std::deque<std::shared_ptr<Work>> works_;
};

}  // namespace kiln::store
