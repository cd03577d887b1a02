#include <random>

#include "store/layer/block_codec.h"
#include "store/layer/block_compressor.h"
#include "tests/store/layer/layer_fixture.h"

namespace kiln::store {
namespace {

using testing::HasSubstr;

// Text-like bytes, the same every time.
std::string Sample(size_t size) {
  std::mt19937 dice(7);
  std::string out;
  while (out.size() < size) {
    out += absl::StrCat("word", dice() % 1000, dice() % 7 == 0 ? "\n" : " ");
    if (dice() % 500 == 0)
      for (int i = 0; i < 3000; ++i) out.push_back(static_cast<char>(dice()));
  }
  out.resize(size);
  return out;
}

using MakeCodec =
    std::function<absl::StatusOr<std::unique_ptr<BlockCodec>>(std::optional<int> level)>;

std::string Pack(const MakeCodec& codec, std::optional<int> level, const std::string& bytes,
                 size_t threads, size_t blocks) {
  CompressionBudget budget(threads, blocks);
  std::string out;
  BlockCompressor compressor(&budget, Must(codec(level)), [&](absl::string_view piece) {
    out.append(piece.data(), piece.size());
    return absl::OkStatus();
  });
  for (size_t at = 0; at < bytes.size(); at += 100003)
    Must(compressor.Append(absl::string_view(bytes).substr(at, 100003)));
  Must(compressor.Finish());
  return out;
}

struct CodecCase {
  const char* name;
  MakeCodec make;
  std::optional<int> level;
};
class CodecTest : public testing::TestWithParam<CodecCase> {};

TEST_P(CodecTest, ComesBackWhateverTheSize) {
  for (const size_t size : {0, 1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9000000}) {
    const std::string bytes = Sample(size);
    const std::string packed = Pack(GetParam().make, GetParam().level, bytes, 2, 4);
    const auto back = Decompress(packed, 65537);
    ASSERT_TRUE(back.ok()) << back.status() << " size " << size;
    EXPECT_TRUE(*back == bytes) << size;
  }
}

TEST_P(CodecTest, BytesDoNotDependOnTheNumberOfThreads) {
  const size_t block = Must(GetParam().make(GetParam().level))->block_bytes();
  const std::string bytes = Sample(2 * block + 400000);
  const std::string want = Pack(GetParam().make, GetParam().level, bytes, 1, 1);
  for (const size_t threads : {2, 8})
    EXPECT_TRUE(Pack(GetParam().make, GetParam().level, bytes, threads, threads + 1) == want)
        << threads;
}

INSTANTIATE_TEST_SUITE_P(Levels, CodecTest,
                         testing::ValuesIn<CodecCase>({{"Gzip", NewGzipCodec, std::nullopt},
                                                       {"Gzip0", NewGzipCodec, 0},
                                                       {"Gzip1", NewGzipCodec, 1},
                                                       {"Gzip3", NewGzipCodec, 3},
                                                       {"Gzip6", NewGzipCodec, 6},
                                                       {"Gzip9", NewGzipCodec, 9},
                                                       {"Zstd", NewZstdCodec, std::nullopt},
                                                       {"Zstd9", NewZstdCodec, 9}}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Codec, GzipHeaderHasNoTimeNoNameAndAnUnknownSystem) {
  EXPECT_EQ(Pack(NewGzipCodec, std::nullopt, "abc", 1, 2).substr(0, 10),
            std::string("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10));
}

TEST(Codec, LevelsOutOfRangeAreRefused) {
  EXPECT_THAT(std::string(NewGzipCodec(10).status().message()), HasSubstr("0 to 9"));
  EXPECT_THAT(std::string(NewZstdCodec(23).status().message()), HasSubstr("0 to 22"));
}

// Random hexadecimal digits: no repetitions that pay.
std::string Digits(size_t size) {
  std::mt19937 dice(3);
  std::string out;
  while (out.size() < size) absl::StrAppend(&out, absl::Hex(dice(), absl::kZeroPad8), " ");
  out.resize(size);
  return out;
}

TEST(Codec, ZstdTakesTheFastLevelWhereTheDefaultGainsNothing) {
  const auto size = [](const std::string& bytes, std::optional<int> level) {
    return Pack(NewZstdCodec, level, bytes, 2, 4).size();
  };
  const std::string text = Sample(4 << 20);
  EXPECT_LT(size(text, 3), size(text, 1));
  EXPECT_EQ(size(text, std::nullopt), size(text, 3));
  const std::string digits = Digits(4 << 20);
  EXPECT_LT(size(digits, 1), size(digits, 3));
  EXPECT_EQ(size(digits, std::nullopt), size(digits, 1));
  // Each block for itself.
  const std::string both = Sample(8 << 20) + Digits(8 << 20);
  EXPECT_LT(size(both, std::nullopt), std::min(size(both, 1), size(both, 3)));
  // A level that is asked for is that level.
  EXPECT_EQ(size(digits, 0), size(digits, std::nullopt));
  EXPECT_GT(size(digits, 3), size(digits, std::nullopt));
}

TEST(Codec, IncompressibleBytesFit) {
  std::mt19937 dice(1);
  std::string bytes;
  for (int i = 0; i < 3000000; ++i) bytes.push_back(static_cast<char>(dice()));
  for (const MakeCodec& make : {MakeCodec(NewGzipCodec), MakeCodec(NewZstdCodec)})
    EXPECT_TRUE(Must(Decompress(Pack(make, std::nullopt, bytes, 2, 4))) == bytes);
}

TEST(Codec, ADroppedCompressorEnds) {
  CompressionBudget budget(2, 3);
  {
    BlockCompressor compressor(&budget, Must(NewGzipCodec(6)),
                               [](absl::string_view) { return absl::OkStatus(); });
    Must(compressor.Append(Sample(3 << 20)));
  }
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(budget.TryAcquire());
  for (int i = 0; i < 3; ++i) budget.Release();
}

TEST(Decompressor, MembersAndFramesFollowEachOther) {
  const std::string bytes = Sample(300000);
  const std::string two = Gzip(bytes) + Gzip(bytes);
  for (const size_t piece : {1, 3, 100, 4096, 1 << 20})
    EXPECT_TRUE(Must(Decompress(two, piece)) == bytes + bytes) << piece;
  const std::string frames = Pack(NewZstdCodec, std::nullopt, bytes, 1, 1);
  for (const size_t piece : {1, 100, 1 << 20})
    EXPECT_TRUE(Must(Decompress(frames + frames, piece)) == bytes + bytes) << piece;
}

TEST(Decompressor, PlainBytesPass) {
  for (const std::string& bytes : {std::string(), std::string("a"), std::string("abcdefgh")})
    EXPECT_EQ(Must(Decompress(bytes, 1)), bytes);
}

TEST(Decompressor, DamageIsNoticed) {
  const std::string bytes = Sample(300000);
  const std::string gzip = Gzip(bytes);
  for (const std::string& packed : {gzip, Pack(NewZstdCodec, std::nullopt, bytes, 1, 1)}) {
    for (const size_t size : {packed.size() - 1, packed.size() / 2, size_t{20}})
      EXPECT_EQ(Decompress(packed.substr(0, size)).status().code(), absl::StatusCode::kDataLoss);
    std::string flipped = packed;
    flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 0x10);
    EXPECT_FALSE(Decompress(flipped).ok());
    EXPECT_EQ(Decompress(packed + "junk").status().code(), absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace kiln::store
