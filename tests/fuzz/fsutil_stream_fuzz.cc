// A recorded stream of packets into the receiver, and every packet through the codec.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "store/fsutil/packet_codec.h"
#include "store/fsutil/receiver.h"

namespace kiln::fsutil {
namespace {

void Check(bool condition) {
  if (!condition) std::abort();
}

// Takes everything, and holds the receiver to what it promises its targets.
class CheckingTarget : public ReceiveTarget {
 public:
  bool AllowsDevices() const override { return false; }
  absl::Status MakeDir(const Stat& stat) override {
    Check(Parent(stat.path));
    kinds_[stat.path] = 'd';
    return absl::OkStatus();
  }
  absl::Status FinishDir(const Stat& stat) override {
    Check(kinds_[stat.path] == 'd');
    return absl::OkStatus();
  }
  absl::Status MakeSymlink(const Stat& stat) override { return Put(stat, 'l'); }
  absl::Status MakeNode(const Stat& stat) override {
    Check((stat.mode & kModeDevice) == 0);
    return Put(stat, 'n');
  }
  absl::Status MakeHardlink(const Stat& stat) override {
    const char target = kinds_[stat.linkname];
    Check(target == 'f' || target == 'n');
    return Put(stat, 'h');
  }
  absl::Status WriteFile(const Stat& stat, std::string data) override {
    Check(stat.size == 0 || stat.size == static_cast<int64_t>(data.size()));
    return Put(stat, 'f');
  }
  absl::StatusOr<std::unique_ptr<ReceiveFile>> CreateFile(const Stat& stat) override {
    class File : public ReceiveFile {
      absl::Status Append(absl::string_view) override { return absl::OkStatus(); }
      absl::Status Close() override { return absl::OkStatus(); }
    };
    Check(Put(stat, 'f').ok());
    return std::make_unique<File>();
  }
  absl::Status Remove(const std::string&) override { return absl::OkStatus(); }

 private:
  // The parent is the root or a directory of this listing, and the path stays inside.
  bool Parent(const std::string& path) {
    Check(!path.empty() && path.front() != '/' && path.back() != '/');
    Check(absl::StrCat("/", path, "/").find("/../") == std::string::npos);
    const size_t slash = path.rfind('/');
    return slash == std::string::npos || kinds_[path.substr(0, slash)] == 'd';
  }
  absl::Status Put(const Stat& stat, char kind) {
    Check(Parent(stat.path) && kinds_.count(stat.path) == 0);
    kinds_[stat.path] = kind;
    return absl::OkStatus();
  }
  std::map<std::string, char> kinds_;
};

void RoundTrip(absl::string_view bytes) {
  Packet packet, again;
  if (!ParsePacket(bytes, &packet).ok()) return;
  std::string encoded;
  AppendPacket(packet, &encoded);
  Check(encoded.size() == EncodedSize(packet));
  Check(ParsePacket(encoded, &again).ok());
  std::string twice;
  AppendPacket(again, &twice);
  Check(twice == encoded);
}

}  // namespace
}  // namespace kiln::fsutil

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  kiln::fsutil::RoundTrip(bytes);
  kiln::fsutil::CheckingTarget target;
  kiln::fsutil::ReceiveOptions options;
  if (size % 3 == 1) {
    options.metadata_only = true;
    options.exception = [](const std::string& path) { return path.size() % 2 == 0; };
  }
  (void)kiln::fsutil::ReceiveBuffer(bytes, target, options);
  return 0;
}
