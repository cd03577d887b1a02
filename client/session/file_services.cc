#include "client/session/file_services.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/grpc_status.h"
#include "client/session/raw_stream.h"
#include "store/base/cancel.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"
#include "store/fsutil/directory_source.h"
#include "store/fsutil/directory_target.h"
#include "store/fsutil/receiver.h"
#include "store/fsutil/sender.h"

namespace kiln::client {

std::string QueryUnescape(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '+') {
      out.push_back(' ');
    } else if (text[i] == '%' && i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) &&
               absl::ascii_isxdigit(text[i + 2])) {
      for (char c : {text[i + 1], text[i + 2]}) {
        value = value * 16 + (absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10);
      }
      out.push_back(static_cast<char>(value));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

namespace {

absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

std::string First(const grpc::ServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? "" : std::string(View(found->second));
}

// All values of a key; "<key>-encoded: 1" says that they are escaped (wire.md 3.1).
std::vector<std::string> All(const grpc::ServerContext& context, const std::string& key) {
  const bool encoded = First(context, (key + "-encoded").c_str()) == "1";
  std::vector<std::string> values;
  const auto range = context.client_metadata().equal_range(key);
  for (auto value = range.first; value != range.second; ++value) {
    values.push_back(encoded ? QueryUnescape(View(value->second))
                             : std::string(View(value->second)));
  }
  return values;
}

// A directory whose files belong to root: who the user is must not change a build.
class OwnerlessSource : public fsutil::FileSource {
 public:
  explicit OwnerlessSource(std::unique_ptr<fsutil::FileSource> source)
      : source_(std::move(source)) {}
  absl::Status Walk(const std::function<absl::Status(fsutil::Stat*)>& visit) override {
    return source_->Walk([&visit](fsutil::Stat* stat) {
      stat->uid = stat->gid = 0;
      return visit(stat);
    });
  }
  absl::StatusOr<Fd> Open(const std::string& path) override { return source_->Open(path); }

 private:
  const std::unique_ptr<fsutil::FileSource> source_;
};

class FileSyncService : public RawService {
 public:
  explicit FileSyncService(const SessionOptions& options)
      : RawService("/moby.filesync.v1.FileSync/DiffCopy"), options_(options) {}

  grpc::Status Handle(grpc::ServerContext* context, RawStream* stream) override {
    return ToGrpc(Send(context, stream));
  }

 private:
  absl::Status Send(grpc::ServerContext* context, RawStream* stream) {
    const std::string name = First(*context, "dir-name");
    const auto dir = options_.local_dirs.find(name);
    if (dir == options_.local_dirs.end()) {
      return absl::NotFoundError(absl::StrCat("no access allowed to dir \"", name, "\""));
    }
    fsutil::FilterOptions filter;
    filter.include_patterns = All(*context, "include-patterns");
    filter.exclude_patterns = All(*context, "exclude-patterns");
    filter.follow_paths = All(*context, "followpaths");
    KILN_ASSIGN_OR_RETURN(auto source, fsutil::DirectorySource::Create(dir->second, filter));
    OwnerlessSource ownerless(std::move(source));
    RawPacketStream packets(context, stream);
    KILN_RETURN_IF_ERROR(fsutil::Send(packets, ownerless));
    return packets.Flush();
  }

  const SessionOptions& options_;
};

class FileSendService : public RawService {
 public:
  explicit FileSendService(const SessionOptions& options)
      : RawService("/moby.filesync.v1.FileSend/DiffCopy"), options_(options) {}

  grpc::Status Handle(grpc::ServerContext* context, RawStream* stream) override {
    return ToGrpc(Receive(context, stream));
  }

 private:
  absl::Status Receive(grpc::ServerContext* context, RawStream* stream) {
    size_t id = 0;  // also when absent: older daemons have one exporter
    const std::string text = First(*context, "buildkit-attachable-exporter-id");
    if (!absl::SimpleAtoi(text, &id)) id = 0;
    if (id >= options_.exports.size() || options_.exports[id].kind == ExportTarget::Kind::kNone ||
        options_.exports[id].kind == ExportTarget::Kind::kLayout) {
      return absl::NotFoundError(absl::StrCat("exporter ", text, " not found"));
    }
    const ExportTarget& target = options_.exports[id];
    if (target.kind == ExportTarget::Kind::kFile) return ReceiveFile(target, stream);
    const bool combined = !First(*context, "buildkit-exporter-multi-platform").empty();
    if (target.delete_others && !combined) {
      // Several streams would remove each other's files (wire.md 3.3).
      return absl::FailedPreconditionError(
          "the daemon is too old for a local export with mode=delete");
    }
    return Annotate(ReceiveDirectory(target, context, stream), absl::StrCat("write ", target.path));
  }

  static absl::Status ReceiveDirectory(const ExportTarget& target, grpc::ServerContext* context,
                                       RawStream* stream) {
    KILN_RETURN_IF_ERROR(MakeDirectories(target.path));
    const bool root = geteuid() == 0;
    KILN_ASSIGN_OR_RETURN(auto directory,
                          fsutil::DirectoryTarget::Open(target.path, /*allow_devices=*/root));
    fsutil::ReceiveOptions options;
    options.map = [uid = geteuid(), gid = getegid()](fsutil::Stat* stat) {
      stat->uid = uid;
      stat->gid = gid;
    };
    options.differ = fsutil::ReceiveOptions::Differ::kNone;
    if (target.delete_others) options.existing_root = target.path;
    RawPacketStream packets(context, stream);
    KILN_RETURN_IF_ERROR(fsutil::Receive(packets, *directory, options));
    // FIN is exchanged: however the stream ends now, everything is here (wire.md 3.2, 7).
    (void)packets.Flush();
    return absl::OkStatus();
  }

  // A file appears under its name only when it is whole.
  static absl::Status ReceiveFile(const ExportTarget& target, RawStream* stream) {
    if (target.path == "-") return Copy(stream, STDOUT_FILENO);
    struct stat info = {};
    const bool special = stat(target.path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
    const std::string temporary =
        special ? target.path : absl::StrCat(target.path, ".", getpid(), ".part");
    KILN_ASSIGN_OR_RETURN(Fd fd,
                          OpenFile(temporary, O_WRONLY | O_CREAT | (special ? 0 : O_TRUNC), 0666));
    absl::Status status = Copy(stream, fd.get());
    if (status.ok()) status = Annotate(fd.Close(), absl::StrCat("write ", temporary));
    if (special) return status;
    if (status.ok() && rename(temporary.c_str(), target.path.c_str()) != 0) {
      status = ErrnoStatus(errno, absl::StrCat("rename ", temporary, " to ", target.path));
    }
    if (!status.ok()) unlink(temporary.c_str());
    return status;
  }

  static absl::Status Copy(RawStream* stream, int fd) {
    grpc::ByteBuffer buffer;
    while (stream->Read(&buffer)) {
      KILN_ASSIGN_OR_RETURN(const std::string data, DecodeBytesMessage(buffer));
      KILN_RETURN_IF_ERROR(WriteAll(fd, data));
    }
    return absl::OkStatus();
  }

  static absl::Status MakeDirectories(const std::string& path) {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string prefix = path.substr(0, end);
      if (mkdir(prefix.c_str(), 0755) != 0 && errno != EEXIST) {
        return ErrnoStatus(errno, absl::StrCat("make directory ", prefix));
      }
      if (end == std::string::npos) return absl::OkStatus();
    }
  }

  const SessionOptions& options_;
};

}  // namespace

SessionService MakeFileSync(const SessionOptions& options) {
  return {std::make_unique<FileSyncService>(options), {"/moby.filesync.v1.FileSync/DiffCopy"}};
}

SessionService MakeFileSend(const SessionOptions& options) {
  return {std::make_unique<FileSendService>(options), {"/moby.filesync.v1.FileSend/DiffCopy"}};
}

}  // namespace kiln::client
