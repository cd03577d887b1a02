#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <zlib.h>

#include "absl/strings/str_cat.h"
#include "store/layer/block_codec.h"

namespace kiln::store {
namespace {

constexpr size_t kBlockBytes = 1 << 20;
constexpr size_t kMemberBytes = 4 << 20;
constexpr size_t kHistoryBytes = 32 << 10;  // the window of deflate
constexpr int kDefaultIsalLevel = 2;
constexpr int kMaxIsalLevel = 3;

void AppendLittle32(uint32_t value, std::string* out) {
  for (int shift = 0; shift < 32; shift += 8)
    out->push_back(static_cast<char>(value >> shift & 0xff));
}

// Each block ends at a byte, as pigz does it: not the last with an empty stored block (sync flush),
// the last with the end of the deflate stream.
class GzipCodec : public BlockCodec {
 public:
  size_t block_bytes() const override { return kBlockBytes; }
  size_t history_bytes() const override { return kHistoryBytes; }
  std::string Begin() override {
    return std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", 10);
  }
  absl::Status Compress(Block* block) override {
    block->crc = ::crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(block->input.data()),
                                   block->input.size());
    return Deflate(block);
  }
  void Joined(const Block& block) override {
    crc_ = static_cast<uint32_t>(
        ::crc32_combine(crc_, block.crc, static_cast<z_off_t>(block.input.size())));
    size_ += block.input.size();
  }
  std::string End() override {
    std::string out;
    AppendLittle32(crc_, &out);
    AppendLittle32(static_cast<uint32_t>(size_), &out);
    return out;
  }

 protected:
  virtual absl::Status Deflate(Block* block) = 0;

 private:
  uint32_t crc_ = 0;
  uint64_t size_ = 0;
};

// isa-l: several times as fast as zlib for a little more output.
class IsalCodec final : public GzipCodec {
 public:
  explicit IsalCodec(int level) : level_(level) {}

 protected:
  absl::Status Deflate(Block* block) override {
    static constexpr uint32_t kBuffers[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT,
                                            ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};
    std::string scratch(kBuffers[level_], '\0');
    struct isal_zstream stream;
    ::isal_deflate_init(&stream);
    stream.level = static_cast<uint32_t>(level_);
    stream.level_buf = reinterpret_cast<uint8_t*>(scratch.data());
    stream.level_buf_size = static_cast<uint32_t>(scratch.size());
    stream.flush = block->last ? NO_FLUSH : SYNC_FLUSH;
    stream.end_of_stream = block->last ? 1 : 0;
    if (!block->before.empty() &&
        ::isal_deflate_set_dict(&stream, reinterpret_cast<uint8_t*>(block->before.data()),
                                static_cast<uint32_t>(block->before.size())) != COMP_OK)
      return absl::InternalError("isa-l refuses a dictionary");
    // Bytes that do not compress are stored, with five bytes for each 64 KiB.
    block->output.resize(block->input.size() + block->input.size() / 512 + 1024);
    stream.next_in = reinterpret_cast<uint8_t*>(block->input.data());
    stream.avail_in = static_cast<uint32_t>(block->input.size());
    stream.next_out = reinterpret_cast<uint8_t*>(block->output.data());
    stream.avail_out = static_cast<uint32_t>(block->output.size());
    for (;;) {
      if (::isal_deflate(&stream) != COMP_OK) return absl::InternalError("isa-l cannot compress");
      if (stream.avail_out > 0) break;
      const size_t done = block->output.size();
      block->output.resize(2 * done);
      stream.next_out = reinterpret_cast<uint8_t*>(block->output.data()) + done;
      stream.avail_out = static_cast<uint32_t>(done);
    }
    block->output.resize(block->output.size() - stream.avail_out);
    return absl::OkStatus();
  }

 private:
  const int level_;
};

class ZlibCodec final : public GzipCodec {
 public:
  explicit ZlibCodec(int level) : level_(level) {}

 protected:
  absl::Status Deflate(Block* block) override {
    z_stream stream = {};
    if (::deflateInit2(&stream, level_, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
      return absl::ResourceExhaustedError("no memory for zlib");
    absl::Status status = Run(&stream, block);
    ::deflateEnd(&stream);
    return status;
  }

 private:
  static absl::Status Run(z_stream* stream, Block* block) {
    if (!block->before.empty() &&
        ::deflateSetDictionary(stream, reinterpret_cast<const Bytef*>(block->before.data()),
                               static_cast<uInt>(block->before.size())) != Z_OK)
      return absl::InternalError("zlib refuses a dictionary");
    block->output.resize(::deflateBound(stream, static_cast<uLong>(block->input.size())) + 16);
    stream->next_in = reinterpret_cast<Bytef*>(block->input.data());
    stream->avail_in = static_cast<uInt>(block->input.size());
    stream->next_out = reinterpret_cast<Bytef*>(block->output.data());
    stream->avail_out = static_cast<uInt>(block->output.size());
    const int result = ::deflate(stream, block->last ? Z_FINISH : Z_SYNC_FLUSH);
    if (result != (block->last ? Z_STREAM_END : Z_OK) || stream->avail_out == 0)
      return absl::InternalError(absl::StrCat("zlib reports ", result));
    block->output.resize(block->output.size() - stream->avail_out);
    return absl::OkStatus();
  }

  const int level_;
};

// Every block is a whole member.
class MemberCodec final : public BlockCodec {
 public:
  explicit MemberCodec(std::optional<int> level) : level_(level) {}
  size_t block_bytes() const override { return kMemberBytes; }
  absl::Status Compress(Block* block) override {
    absl::StatusOr<std::unique_ptr<BlockCodec>> one = NewGzipCodec(level_);
    if (!one.ok()) return one.status();
    block->last = true;
    const absl::Status compressed = (*one)->Compress(block);
    if (!compressed.ok()) return compressed;
    (*one)->Joined(*block);
    block->output = (*one)->Begin() + block->output + (*one)->End();
    return absl::OkStatus();
  }

 private:
  const std::optional<int> level_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BlockCodec>> NewGzipMemberCodec(std::optional<int> level) {
  const absl::Status valid = NewGzipCodec(level).status();
  if (!valid.ok()) return valid;
  return std::make_unique<MemberCodec>(level);
}

absl::StatusOr<std::unique_ptr<BlockCodec>> NewGzipCodec(std::optional<int> level) {
  if (!level.has_value() || *level == -1) return std::make_unique<IsalCodec>(kDefaultIsalLevel);
  if (*level < 0 || *level > 9)
    return absl::InvalidArgumentError(
        absl::StrCat("compression level ", *level, " of gzip: 0 to 9 are possible"));
  if (*level >= 1 && *level <= kMaxIsalLevel) return std::make_unique<IsalCodec>(*level);
  return std::make_unique<ZlibCodec>(*level);
}

}  // namespace kiln::store
