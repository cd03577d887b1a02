#include <zstd.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/base/mutex.h"
#include "store/layer/block_codec.h"

namespace kiln::store {
namespace {

constexpr size_t kBlockBytes = 4 << 20;
constexpr int kMaxLevel = 22;

struct Free {
  void operator()(ZSTD_CCtx* context) const { ::ZSTD_freeCCtx(context); }
};
using Context = std::unique_ptr<ZSTD_CCtx, Free>;

class ZstdCodec final : public BlockCodec {
 public:
  explicit ZstdCodec(int level) : level_(level) {}
  size_t block_bytes() const override { return kBlockBytes; }

  absl::Status Compress(Block* block) override {
    Context context = Take();
    if (context == nullptr) return absl::ResourceExhaustedError("no memory for zstd");
    block->output.resize(::ZSTD_compressBound(block->input.size()));
    const size_t size = ::ZSTD_compress2(context.get(), block->output.data(), block->output.size(),
                                         block->input.data(), block->input.size());
    if (::ZSTD_isError(size) != 0)
      return absl::InternalError(absl::StrCat("zstd: ", ::ZSTD_getErrorName(size)));
    block->output.resize(size);
    MutexLock lock(&mu_);
    idle_.push_back(std::move(context));
    return absl::OkStatus();
  }

 private:
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
    ::ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level_);
    ::ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
    return context;
  }

  const int level_;
  Mutex mu_;
  std::vector<Context> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockCodec>> NewZstdCodec(std::optional<int> level) {
  const int chosen = level.value_or(0);
  if (chosen < -1 || chosen > kMaxLevel)
    return absl::InvalidArgumentError(
        absl::StrCat("compression level ", chosen, " of zstd: 0 to ", kMaxLevel, " are possible"));
  return std::make_unique<ZstdCodec>(chosen <= 0 ? ZSTD_CLEVEL_DEFAULT : chosen);
}

}  // namespace kiln::store
