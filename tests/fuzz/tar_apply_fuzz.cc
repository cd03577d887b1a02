// Any bytes as the tar of a layer, unpacked in both forms: nothing outside is touched, and both
// end.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "store/layer/decompressor.h"
#include "store/layer/layer_unpacker.h"
#include "store/layer/tar_clamp.h"
#include "store/snapshot/driver.h"

namespace kiln::store {
namespace {

constexpr time_t kLongAgo = 1000;

class Pieces final : public ByteStream {
 public:
  Pieces(absl::string_view bytes, size_t piece) : rest_(bytes), piece_(piece) {}
  absl::StatusOr<absl::string_view> Next() override {
    const absl::string_view out = rest_.substr(0, piece_);
    rest_.remove_prefix(out.size());
    return out;
  }

 private:
  absl::string_view rest_;
  const size_t piece_;
};

void Unpack(absl::string_view bytes, const std::string& base, bool overlay) {
  const std::string root = base + "/root";
  if (::mkdir(root.c_str(), 0755) != 0) std::abort();
  UnpackOptions options;
  options.overlay_form = overlay;
  options.limits.max_bytes = 1 << 20;
  options.limits.max_entries = 1000;
  auto unpacker = LayerUnpacker::Create(root, options);
  if (!unpacker.ok()) std::abort();
  Pieces in(bytes, 100 + bytes.size() % 700);
  if ((*unpacker)->Unpack(in).ok()) (void)(*unpacker)->Settle({});
  // The canaries beside the root are still the only things there, as they were.
  struct stat st;
  if (::lstat((base + "/canary").c_str(), &st) != 0 || st.st_size != 0 || st.st_nlink != 1 ||
      (st.st_mode & 07777) != 0600)
    std::abort();
  if (::lstat((base + "/d").c_str(), &st) != 0 || st.st_nlink != 2 || st.st_mtime != kLongAgo ||
      (st.st_mode & 07777) != 0700)
    std::abort();
  if (::lstat(base.c_str(), &st) != 0 || st.st_nlink != 4) std::abort();
  if (!RemoveTree(root).ok()) std::abort();
}

}  // namespace
}  // namespace kiln::store

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kiln::store;  // NOLINT(google-build-using-namespace)
  static const std::string base = [] {
    char name[] = "/tmp/kiln-fuzz-XXXXXX";
    if (::mkdtemp(name) == nullptr) std::abort();
    const std::string canary = std::string(name) + "/canary";
    auto file = kiln::OpenFile(canary, 02 | 0100, 0600);
    if (!file.ok()) std::abort();
    const std::string directory = std::string(name) + "/d";
    const struct timespec times[2] = {{kLongAgo, 0}, {kLongAgo, 0}};
    if (::mkdir(directory.c_str(), 0700) != 0 ||
        ::utimensat(AT_FDCWD, directory.c_str(), times, 0) != 0)
      std::abort();
    static std::string made;
    made = name;
    std::atexit([] { std::filesystem::remove_all(made); });
    return made;
  }();
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  Unpack(bytes, base, true);
  Unpack(bytes, base, false);
  Pieces tar(bytes, 333), packed(bytes, 77);
  (void)ClampTarTimes(tar, absl::FromUnixSeconds(1000), {},
                      [](absl::string_view) { return absl::OkStatus(); });
  auto plain = NewDecompressor(&packed);
  for (int64_t total = 0; plain.ok() && total < (1 << 20);) {
    auto piece = (*plain)->Next();
    if (!piece.ok() || piece->empty()) break;
    total += static_cast<int64_t>(piece->size());
  }
  return 0;
}
