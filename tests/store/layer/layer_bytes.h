#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/layer/byte_stream.h"
#include "store/layer/decompressor.h"

namespace kiln::store {

// A stream over bytes in memory, in pieces of any size.
class StringStream final : public ByteStream {
 public:
  explicit StringStream(std::string bytes, size_t piece = 1 << 20)
      : bytes_(std::move(bytes)), piece_(piece) {}
  absl::StatusOr<absl::string_view> Next() override {
    // A copy of its own, so that whoever keeps a piece too long is found by the sanitizer.
    now_ = std::make_unique<std::string>(bytes_.substr(std::min(at_, bytes_.size()), piece_));
    at_ += now_->size();
    return absl::string_view(*now_);
  }

 private:
  const std::string bytes_;
  const size_t piece_;
  size_t at_ = 0;
  std::unique_ptr<std::string> now_;
};

inline absl::StatusOr<std::string> ReadStream(ByteStream& in) {
  std::string out;
  for (;;) {
    absl::StatusOr<absl::string_view> piece = in.Next();
    if (!piece.ok()) return piece.status();
    if (piece->empty()) return out;
    out.append(piece->data(), piece->size());
  }
}

inline absl::StatusOr<std::string> Decompress(const std::string& bytes, size_t piece = 1 << 20) {
  StringStream in(bytes, piece);
  auto out = NewDecompressor(&in);
  if (!out.ok()) return out.status();
  return ReadStream(**out);
}

}  // namespace kiln::store
