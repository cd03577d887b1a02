// Checksum files with any content: what is read back is sorted, and survives being written again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/digest.h"
#include "store/checksum_table.h"

namespace {

void Check(absl::string_view bytes) {
  using kiln::store::ChecksumFile;
  const ChecksumFile file = kiln::store::DecodeChecksumFile(bytes);
  for (size_t i = 1; i < file.entries.size(); ++i) {
    if (!(file.entries[i - 1].first < file.entries[i].first)) std::abort();
  }
  const ChecksumFile again = kiln::store::DecodeChecksumFile(absl::StrCat(
      kiln::store::ChecksumFileMagic(), kiln::store::EncodeChecksumBlock(file.entries)));
  if (again.damaged || again.entries != file.entries) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  Check(bytes);
  // As the payload of a block whose guard is right: the guard alone would keep the fuzzer out.
  std::string head;
  for (int i = 0; i < 4; ++i) head.push_back(static_cast<char>(size >> (8 * i)));
  Check(absl::StrCat(kiln::store::ChecksumFileMagic(), head,
                     kiln::Digest::Of(bytes).raw().substr(0, 8), bytes));
  return 0;
}
