#include "store/layer/byte_pipe.h"

#include <utility>

namespace kiln::store {
namespace {

constexpr size_t kPieces = 8;
constexpr size_t kPieceBytes = 256 << 10;

}  // namespace

absl::Status BytePipe::Write(absl::string_view bytes) {
  MutexLock lock(&mu_);
  // Small pieces share a buffer: a header costs no hand-over of its own.
  if (!pieces_.empty() && pieces_.back().size() + bytes.size() <= kPieceBytes && !unread_) {
    pieces_.back().append(bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  while (pieces_.size() >= kPieces && !unread_) changed_.Wait(&mu_);
  if (unread_) return why_;
  std::string piece;
  piece.reserve(kPieceBytes);
  piece.assign(bytes.data(), bytes.size());
  pieces_.push_back(std::move(piece));
  changed_.Signal();
  return absl::OkStatus();
}

void BytePipe::CloseWriter(absl::Status status) {
  MutexLock lock(&mu_);
  written_ = true;
  end_ = std::move(status);
  changed_.Signal();
}

absl::StatusOr<absl::string_view> BytePipe::Next() {
  MutexLock lock(&mu_);
  while (pieces_.empty() && !written_) changed_.Wait(&mu_);
  if (pieces_.empty()) {
    now_.clear();
    if (!end_.ok()) return end_;
    return absl::string_view();
  }
  now_ = std::move(pieces_.front());
  pieces_.pop_front();
  changed_.Signal();
  return absl::string_view(now_);
}

void BytePipe::CloseReader(absl::Status why) {
  MutexLock lock(&mu_);
  unread_ = true;
  why_ = std::move(why);
  pieces_.clear();
  changed_.Signal();
}

}  // namespace kiln::store
