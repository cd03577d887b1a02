#include "store/fsutil/sender.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/fsutil/packet_codec.h"

namespace kiln::fsutil {
namespace {

constexpr size_t kChunkBytes = 32 << 10;  // as upstream's sender
constexpr size_t kMaxQueued = 128;        // requests read ahead of what is sent

struct Request {
  uint32_t id = 0;
  std::string path;
  Fd file;  // invalid: it could not be opened, and an empty DATA is the whole answer
};

// One transfer. The calling thread reads requests and opens the files (which starts their
// read-ahead); one writing thread sends the listing and, as soon as requests are there, content.
// All writes are on that one thread, so that no lock is held across I/O.
class Sender {
 public:
  Sender(PacketStream& stream, FileSource& source, const SendOptions& options)
      : stream_(stream), source_(source), options_(options) {}

  absl::Status Run() {
    CancelRegistration on_cancel = options_.cancel.OnCancel([this] { stream_.Abort(); });
    std::thread writer([this] { WriteAll(); });
    absl::Status read = ReadAll();
    if (!read.ok()) Fail(read);
    writer.join();
    if (options_.cancel.Cancelled()) return options_.cancel.status();
    MutexLock lock(&mu_);
    return status_;
  }

 private:
  // ---- reading thread ----

  absl::Status ReadAll() {
    Packet packet;
    for (;;) {
      KILN_ASSIGN_OR_RETURN(const bool more, stream_.Read(&packet));
      if (!more) return absl::UnavailableError("the receiver ended the stream early");
      switch (packet.type) {
        case Packet::Type::kErr:
          return absl::UnknownError(absl::StrCat("error from receiver: ", packet.data));
        case Packet::Type::kReq:
          KILN_RETURN_IF_ERROR(Enqueue(packet.id));
          break;
        case Packet::Type::kFin:
          return EnqueueFin();
        default:
          return absl::InvalidArgumentError(absl::StrCat(
              "unexpected packet type ", static_cast<int>(packet.type), " from the receiver"));
      }
    }
  }

  absl::Status Enqueue(uint32_t id) {
    Request request;
    request.id = id;
    {
      MutexLock lock(&mu_);
      auto it = files_.find(id);
      if (it == files_.end())
        return absl::InvalidArgumentError(absl::StrCat("invalid file id ", id));
      request.path = std::move(it->second);
      files_.erase(it);
    }
    absl::StatusOr<Fd> file = source_.Open(request.path);
    if (file.ok()) {
      request.file = *std::move(file);
      // A hint only: the read itself reports errors.
      (void)::posix_fadvise(request.file.get(), 0, 0, POSIX_FADV_WILLNEED);
    }
    MutexLock lock(&mu_);
    while (queue_.size() >= kMaxQueued && !stopped_) changed_.Wait(&mu_);
    if (stopped_) return absl::OkStatus();
    queue_.push_back(std::move(request));
    changed_.SignalAll();
    return absl::OkStatus();
  }

  absl::Status EnqueueFin() {
    MutexLock lock(&mu_);
    if (!listed_) return absl::InvalidArgumentError("FIN from the receiver within the listing");
    fin_ = true;
    changed_.SignalAll();
    return absl::OkStatus();
  }

  // ---- writing thread ----

  void WriteAll() {
    absl::Status status = SendListing();
    if (!status.ok()) {
      {
        MutexLock lock(&mu_);
        if (status_.ok()) status_ = status;
        stopped_ = true;
        changed_.SignalAll();
      }
      // The receiver learns why; it ends the stream, which ends our reader too.
      Packet packet;
      packet.type = Packet::Type::kErr;
      packet.data = std::string(status.message());
      if (!stream_.Write(packet).ok() || !stream_.Flush().ok()) stream_.Abort();
      return;
    }
    status = SendContent();
    if (!status.ok()) Fail(status);
  }

  absl::Status SendListing() {
    uint32_t id = 0;
    absl::Status status = source_.Walk([&](Stat* stat) -> absl::Status {
      if (IsRegular(stat->mode) && !IsHardlink(*stat)) {
        MutexLock lock(&mu_);
        files_.emplace(id, stat->path);
      }
      ++id;
      packet_.type = Packet::Type::kStat;
      packet_.has_stat = true;
      std::swap(packet_.stat, *stat);
      absl::Status written = Write(packet_);
      std::swap(packet_.stat, *stat);
      KILN_RETURN_IF_ERROR(written);
      Request request;
      if (!TakeRequest(&request)) return absl::OkStatus();
      return SendFile(request);
    });
    KILN_RETURN_IF_ERROR(status);
    packet_ = Packet();
    {
      MutexLock lock(&mu_);
      listed_ = true;
    }
    return Write(packet_);
  }

  // Answers requests until FIN.
  absl::Status SendContent() {
    for (;;) {
      Request request;
      if (TakeRequest(&request)) {
        KILN_RETURN_IF_ERROR(SendFile(request));
        continue;
      }
      KILN_RETURN_IF_ERROR(stream_.Flush());
      MutexLock lock(&mu_);
      while (queue_.empty() && !fin_ && !stopped_) changed_.Wait(&mu_);
      if (stopped_) return absl::OkStatus();
      if (queue_.empty() && fin_) break;
    }
    Packet fin;
    fin.type = Packet::Type::kFin;
    KILN_RETURN_IF_ERROR(Write(fin));
    return stream_.Flush();
  }

  bool TakeRequest(Request* request) {
    MutexLock lock(&mu_);
    if (queue_.empty() || stopped_) return false;
    if (queue_.size() == kMaxQueued) changed_.SignalAll();
    *request = std::move(queue_.front());
    queue_.pop_front();
    return true;
  }

  absl::Status SendFile(Request& request) {
    data_.type = Packet::Type::kData;
    data_.id = request.id;
    while (request.file.valid()) {
      data_.data.resize(kChunkBytes);
      const ssize_t n = ::read(request.file.get(), data_.data.data(), kChunkBytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus(errno, absl::StrCat("read ", request.path));
      if (n == 0) break;
      data_.data.resize(static_cast<size_t>(n));
      KILN_RETURN_IF_ERROR(Write(data_));
    }
    request.file.Reset();
    data_.data.clear();
    return Write(data_);
  }

  absl::Status Write(const Packet& packet) {
    KILN_RETURN_IF_ERROR(stream_.Write(packet));
    if (options_.progress) {
      sent_bytes_ += static_cast<int64_t>(EncodedSize(packet));
      options_.progress(sent_bytes_);
    }
    return absl::OkStatus();
  }

  // ---- both ----

  void Fail(const absl::Status& status) {
    bool tell = false;
    {
      MutexLock lock(&mu_);
      tell = status_.ok();
      if (tell) status_ = status;
      stopped_ = true;
      changed_.SignalAll();
    }
    if (tell) stream_.Abort();
  }

  PacketStream& stream_;
  FileSource& source_;
  const SendOptions& options_;

  // Owned by the writing thread.
  Packet packet_, data_;
  int64_t sent_bytes_ = 0;

  Mutex mu_;
  CondVar changed_;
  absl::flat_hash_map<uint32_t, std::string> files_ ABSL_GUARDED_BY(mu_);  // not yet requested
  std::deque<Request> queue_ ABSL_GUARDED_BY(mu_);
  bool listed_ ABSL_GUARDED_BY(mu_) = false;
  bool fin_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::Status Send(PacketStream& stream, FileSource& source, const SendOptions& options) {
  return Sender(stream, source, options).Run();
}

}  // namespace kiln::fsutil
