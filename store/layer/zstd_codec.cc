#include <zstd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/layer/block_codec.h"

namespace kiln::store {
namespace {

constexpr size_t kBlockBytes = 8 << 20;
constexpr int kWindowLog =
    23;  // a whole block; decoders need to support no more (RFC 8878, 3.1.1.1.2)
constexpr int kMaxLevel = 22;
constexpr int kFastLevel = 1;

constexpr size_t kSlices = 8;
constexpr size_t kSliceBytes = 16 << 10;
constexpr size_t kSampledBytes = 1 << 20;  // smaller blocks cost less than the question

// Slices of the block, evenly spread.
std::string SampleOf(absl::string_view bytes) {
  std::string sample;
  sample.reserve(kSlices * kSliceBytes);
  for (size_t i = 0; i < kSlices; ++i) {
    const absl::string_view slice = bytes.substr(bytes.size() / kSlices * i, kSliceBytes);
    sample.append(slice.data(), slice.size());
  }
  return sample;
}

struct Free {
  void operator()(ZSTD_CCtx* context) const { ::ZSTD_freeCCtx(context); }
};
using Context = std::unique_ptr<ZSTD_CCtx, Free>;

class ZstdCodec final : public BlockCodec {
 public:
  // nullopt: chosen for each block.
  explicit ZstdCodec(std::optional<int> level) : level_(level) {}
  size_t block_bytes() const override { return kBlockBytes; }

  absl::Status Compress(Block* block) override {
    Context context = Take();
    if (context == nullptr) return absl::ResourceExhaustedError("no memory for zstd");
    block->output.resize(::ZSTD_compressBound(block->input.size()));
    int level = level_.value_or(ZSTD_CLEVEL_DEFAULT);
    if (!level_.has_value() && block->input.size() >= kSampledBytes) {
      KILN_ASSIGN_OR_RETURN(level, LevelFor(context.get(), block));
    }
    KILN_ASSIGN_OR_RETURN(const size_t size,
                          Frame(context.get(), level, block->input, &block->output));
    block->output.resize(size);
    MutexLock lock(&mu_);
    idle_.push_back(std::move(context));
    return absl::OkStatus();
  }

 private:
  // The size of the frame, which is put at the start of `out`, large enough.
  static absl::StatusOr<size_t> Frame(ZSTD_CCtx* context, int level, absl::string_view bytes,
                                      std::string* out) {
    ::ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    const size_t size =
        ::ZSTD_compress2(context, out->data(), out->size(), bytes.data(), bytes.size());
    if (::ZSTD_isError(size) != 0)
      return absl::InternalError(absl::StrCat("zstd: ", ::ZSTD_getErrorName(size)));
    return size;
  }

  // The fast level where the default one would gain nothing: words without repetitions, of which
  // it makes more bytes in four times the time, and what is compressed already. Depends on the
  // block's bytes only.
  static absl::StatusOr<int> LevelFor(ZSTD_CCtx* context, Block* block) {
    const std::string sample = SampleOf(block->input);
    KILN_ASSIGN_OR_RETURN(const size_t fast, Frame(context, kFastLevel, sample, &block->output));
    KILN_ASSIGN_OR_RETURN(const size_t usual,
                          Frame(context, ZSTD_CLEVEL_DEFAULT, sample, &block->output));
    return fast <= usual ? kFastLevel : ZSTD_CLEVEL_DEFAULT;
  }

  Context Take() {
    {
      MutexLock lock(&mu_);
      if (!idle_.empty()) {
        Context context = std::move(idle_.back());
        idle_.pop_back();
        return context;
      }
    }
    Context context(::ZSTD_createCCtx());
    if (context == nullptr) return context;
    ::ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
    ::ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
    return context;
  }

  const std::optional<int> level_;
  Mutex mu_;
  std::vector<Context> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockCodec>> NewZstdCodec(std::optional<int> level) {
  const int chosen = level.value_or(0);
  if (chosen < -1 || chosen > kMaxLevel)
    return absl::InvalidArgumentError(
        absl::StrCat("compression level ", chosen, " of zstd: 0 to ", kMaxLevel, " are possible"));
  return std::make_unique<ZstdCodec>(chosen <= 0 ? std::nullopt : std::optional<int>(chosen));
}

}  // namespace kiln::store
