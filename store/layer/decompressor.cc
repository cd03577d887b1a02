#include "store/layer/decompressor.h"

#include <isa-l/igzip_lib.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/status_macros.h"

namespace kiln::store {
namespace {

constexpr size_t kPieceBytes = 256 << 10;
constexpr int kMaxWindowLog = 27;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("the compressed layer is damaged: ", what));
}

class FileStream final : public ByteStream {
 public:
  explicit FileStream(Fd file) : file_(std::move(file)), buffer_(kPieceBytes, '\0') {}
  absl::StatusOr<absl::string_view> Next() override {
    for (;;) {
      const ssize_t n = ::pread(file_.get(), buffer_.data(), buffer_.size(), at_);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, "read a layer");
      at_ += n;
      return absl::string_view(buffer_).substr(0, static_cast<size_t>(n));
    }
  }

 private:
  const Fd file_;
  std::string buffer_;
  off_t at_ = 0;
};

// Bytes that were looked at already, then the rest.
class Prefixed final : public ByteStream {
 public:
  Prefixed(std::string prefix, ByteStream* in) : prefix_(std::move(prefix)), in_(in) {}
  absl::StatusOr<absl::string_view> Next() override {
    if (!done_ && !prefix_.empty()) {
      done_ = true;
      return absl::string_view(prefix_);
    }
    return in_->Next();
  }

 private:
  const std::string prefix_;
  ByteStream* const in_;
  bool done_ = false;
};

class GzipStream final : public ByteStream {
 public:
  explicit GzipStream(std::unique_ptr<ByteStream> in)
      : in_(std::move(in)), out_(kPieceBytes, '\0') {
    Begin();
  }

  absl::StatusOr<absl::string_view> Next() override {
    state_.next_out = reinterpret_cast<uint8_t*>(out_.data());
    state_.avail_out = static_cast<uint32_t>(out_.size());
    while (state_.avail_out > 0 && !ended_) {
      if (state_.avail_in == 0) {
        KILN_ASSIGN_OR_RETURN(const absl::string_view piece, in_->Next());
        if (piece.empty()) {
          if (!between_members_) return Damaged("gzip data is cut short");
          ended_ = true;
          break;
        }
        state_.next_in =
            reinterpret_cast<uint8_t*>(const_cast<char*>(piece.data()));  // isa-l only reads
        state_.avail_in = static_cast<uint32_t>(piece.size());
      }
      if (between_members_) {
        // What follows a member must be another one, as in Go's reader.
        if (state_.next_in[0] != 0x1f) return Damaged("something that is no gzip follows");
        between_members_ = false;
      }
      const int result = ::isal_inflate(&state_);
      if (result != ISAL_DECOMP_OK && result != ISAL_END_INPUT && result != ISAL_OUT_OVERFLOW)
        return Damaged(absl::StrCat("gzip: isa-l reports ", result));
      if (state_.block_state == ISAL_BLOCK_FINISH) {
        const uint32_t room = state_.avail_out, rest = state_.avail_in;
        uint8_t *const out = state_.next_out, *const in = state_.next_in;
        Begin();
        state_.next_out = out;
        state_.avail_out = room;
        state_.next_in = in;
        state_.avail_in = rest;
        between_members_ = true;
      }
    }
    return absl::string_view(out_).substr(0, out_.size() - state_.avail_out);
  }

 private:
  void Begin() {
    ::isal_inflate_init(&state_);
    state_.crc_flag = ISAL_GZIP;
  }

  const std::unique_ptr<ByteStream> in_;
  std::string out_;
  struct inflate_state state_;
  bool between_members_ = false;
  bool ended_ = false;
};

class ZstdStream final : public ByteStream {
 public:
  explicit ZstdStream(std::unique_ptr<ByteStream> in)
      : in_(std::move(in)), out_(kPieceBytes, '\0'), context_(::ZSTD_createDCtx()) {
    ::ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  }

  absl::StatusOr<absl::string_view> Next() override {
    ZSTD_outBuffer out = {out_.data(), out_.size(), 0};
    while (out.pos == 0) {
      // A full buffer last time may have left something inside the decoder.
      if (input_.pos == input_.size && !flushing_) {
        KILN_ASSIGN_OR_RETURN(const absl::string_view piece, in_->Next());
        if (piece.empty()) {
          if (!between_frames_) return Damaged("zstd data is cut short");
          return absl::string_view();
        }
        input_ = {piece.data(), piece.size(), 0};
      }
      const size_t result = ::ZSTD_decompressStream(context_.get(), &out, &input_);
      if (::ZSTD_isError(result) != 0) {
        if (::ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge)
          return absl::InvalidArgumentError("the layer's zstd window is above 128 MiB");
        return Damaged(absl::StrCat("zstd: ", ::ZSTD_getErrorName(result)));
      }
      between_frames_ = result == 0;
      flushing_ = out.pos == out.size && !between_frames_;
    }
    return absl::string_view(out_).substr(0, out.pos);
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ::ZSTD_freeDCtx(context); }
  };
  const std::unique_ptr<ByteStream> in_;
  std::string out_;
  const std::unique_ptr<ZSTD_DCtx, Free> context_;
  ZSTD_inBuffer input_ = {nullptr, 0, 0};
  bool between_frames_ = false;
  bool flushing_ = false;
};

}  // namespace

Packing DetectPacking(absl::string_view first_bytes) {
  if (absl::StartsWith(first_bytes, "\x1f\x8b\x08")) return Packing::kGzip;
  if (absl::StartsWith(first_bytes, "\x28\xb5\x2f\xfd")) return Packing::kZstd;
  return Packing::kPlain;
}

std::unique_ptr<ByteStream> NewFileStream(Fd file) {
  return std::make_unique<FileStream>(std::move(file));
}

absl::StatusOr<std::unique_ptr<ByteStream>> NewDecompressor(ByteStream* in) {
  std::string first;
  while (first.size() < 4) {
    KILN_ASSIGN_OR_RETURN(const absl::string_view piece, in->Next());
    if (piece.empty()) break;
    first.append(piece.data(), piece.size());
  }
  const Packing packing = DetectPacking(first);
  auto whole = std::make_unique<Prefixed>(std::move(first), in);
  switch (packing) {
    case Packing::kGzip:
      return std::make_unique<GzipStream>(std::move(whole));
    case Packing::kZstd:
      return std::make_unique<ZstdStream>(std::move(whole));
    case Packing::kPlain:
      return whole;
  }
  return absl::InternalError("unknown packing");
}

absl::StatusOr<absl::string_view> HashingStream::Next() {
  KILN_ASSIGN_OR_RETURN(const absl::string_view piece, in_->Next());
  hash_.Update(piece);
  size_bytes_ += static_cast<int64_t>(piece.size());
  return piece;
}

}  // namespace kiln::store
