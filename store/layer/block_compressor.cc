#include "store/layer/block_compressor.h"

#include <algorithm>
#include <utility>

#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::store {

struct BlockCompressor::Work {
  BlockCodec::Block block;
  Mutex mu;
  CondVar changed;
  bool done ABSL_GUARDED_BY(mu) = false;
  absl::Status status ABSL_GUARDED_BY(mu);
};

BlockCompressor::BlockCompressor(CompressionBudget* budget, std::unique_ptr<BlockCodec> codec,
                                 ByteSink out)
    : budget_(budget), codec_(std::move(codec)), out_(std::move(out)) {}

BlockCompressor::~BlockCompressor() {
  for (const std::shared_ptr<Work>& work : works_) {
    {
      MutexLock lock(&work->mu);
      while (!work->done) work->changed.Wait(&work->mu);
    }
    budget_->Release();
  }
}

absl::Status BlockCompressor::Append(absl::string_view bytes) {
  while (!bytes.empty()) {
    // Not before more comes: the last block is told apart.
    if (input_.size() == codec_->block_bytes()) KILN_RETURN_IF_ERROR(Submit(/*last=*/false));
    const absl::string_view part = bytes.substr(0, codec_->block_bytes() - input_.size());
    input_.append(part.data(), part.size());
    bytes.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

absl::Status BlockCompressor::Cut() {
  return input_.empty() ? absl::OkStatus() : Submit(/*last=*/false);
}

absl::Status BlockCompressor::Flush() {
  KILN_RETURN_IF_ERROR(Cut());
  while (!works_.empty()) KILN_RETURN_IF_ERROR(JoinFirst());
  return absl::OkStatus();
}

absl::Status BlockCompressor::Finish() {
  KILN_RETURN_IF_ERROR(Submit(/*last=*/true));
  while (!works_.empty()) KILN_RETURN_IF_ERROR(JoinFirst());
  const std::string end = codec_->End();
  return end.empty() ? absl::OkStatus() : out_(end);
}

absl::Status BlockCompressor::Submit(bool last) {
  if (!begun_) {
    begun_ = true;
    const std::string begin = codec_->Begin();
    if (!begin.empty()) KILN_RETURN_IF_ERROR(out_(begin));
  }
  while (!budget_->TryAcquire()) {
    if (works_.empty()) {
      budget_->Acquire();
      break;
    }
    KILN_RETURN_IF_ERROR(JoinFirst());
  }
  auto work = std::make_shared<Work>();
  // Fresh pages would cost as much as a fifth of a fast compression.
  work->block = std::move(spare_);
  std::swap(work->block.input, input_);
  work->block.before = std::move(before_);
  work->block.last = last;
  input_.clear();
  const std::string& input = work->block.input;
  const size_t history = std::min(input.size(), codec_->history_bytes());
  before_ = input.substr(input.size() - history);
  input_.reserve(last ? 0 : codec_->block_bytes());
  works_.push_back(work);
  ++blocks_;
  budget_->Run([work, codec = codec_.get()] {
    absl::Status status = codec->Compress(&work->block);
    MutexLock lock(&work->mu);
    work->status = std::move(status);
    work->done = true;
    work->changed.SignalAll();
  });
  return absl::OkStatus();
}

absl::Status BlockCompressor::JoinFirst() {
  const std::shared_ptr<Work> work = works_.front();
  absl::Status status;
  {
    MutexLock lock(&work->mu);
    while (!work->done) work->changed.Wait(&work->mu);
    status = work->status;
  }
  works_.pop_front();
  budget_->Release();
  KILN_RETURN_IF_ERROR(status);
  codec_->Joined(work->block);
  status = out_(work->block.output);
  spare_ = std::move(work->block);
  return status;
}

}  // namespace kiln::store
