#include "store/fsutil/receiver.h"

#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/deadline.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/base/steady_cond_var.h"
#include "store/fsutil/listing_validator.h"
#include "store/fsutil/packet_codec.h"
#include "store/fsutil/tree_updater.h"

namespace kiln::fsutil {
namespace {

// Files that arrive at the same time. Upstream's sender interleaves four.
constexpr size_t kMaxOpenFiles = 64;
// A file is held in memory up to here, and written at once when it ends.
constexpr size_t kBufferedBytes = 128 << 10;

std::string Quoted(absl::string_view path) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(path), "\"");
}

// Requests that any stream takes without waiting for the peer: less than 100 bytes.
constexpr int kRequestsAtOnce = 8;

// Sends the first requests at once, the others on a thread of its own, which most transfers of what
// is there already never need.
class Requester {
 public:
  explicit Requester(PacketStream& stream) : stream_(stream) {}
  ~Requester() { Stop(); }

  // Where the stream is broken, the reader finds out what the peer said before.
  void Request(uint32_t id) {
    if (sent_at_once_ < kRequestsAtOnce) {
      ++sent_at_once_;
      if (first_sent_.ok()) first_sent_ = Send({id});
      return;
    }
    Start();
    MutexLock lock(&mu_);
    queue_.push_back(id);
    changed_.SignalAll();
  }

  // Sends what is queued, then `last`; the thread ends. Returns the first error of the stream.
  absl::Status Finish(const Packet& last) {
    KILN_RETURN_IF_ERROR(first_sent_);
    if (!thread_.joinable()) return stream_.WriteLast(last);
    {
      MutexLock lock(&mu_);
      last_ = &last;
      changed_.SignalAll();
    }
    thread_.join();
    MutexLock lock(&mu_);
    return status_;
  }

  // Sends `last` in place of what is queued, if the peer takes it within a second; the stream is
  // aborted then.
  void Fail(const Packet& last) {
    Start();
    {
      MutexLock lock(&mu_);
      queue_.clear();
      last_ = &last;
      changed_.SignalAll();
      const Deadline deadline(absl::Seconds(1));
      while (!ended_ && !deadline.Passed()) changed_.WaitUntil(&mu_, deadline);
    }
    stream_.Abort();
    thread_.join();
  }

  // Forgets what is queued.
  void Stop() {
    {
      MutexLock lock(&mu_);
      stopped_ = true;
      changed_.SignalAll();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Start() {
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  }

  void Run() {
    absl::Status status;
    for (bool more = true; more && status.ok();) {
      std::deque<uint32_t> batch;
      const Packet* last = nullptr;
      {
        MutexLock lock(&mu_);
        while (queue_.empty() && last_ == nullptr && !stopped_) changed_.Wait(&mu_);
        if (stopped_) break;
        batch.swap(queue_);
        if (batch.empty()) last = last_;
      }
      more = last == nullptr;
      status = more ? Send(batch) : stream_.WriteLast(*last);
    }
    MutexLock lock(&mu_);
    status_ = status;
    ended_ = true;
    changed_.SignalAll();
  }

  absl::Status Send(const std::deque<uint32_t>& batch) {
    Packet packet;
    packet.type = Packet::Type::kReq;
    for (const uint32_t id : batch) {
      packet.id = id;
      KILN_RETURN_IF_ERROR(stream_.Write(packet));
    }
    return stream_.Flush();
  }

  PacketStream& stream_;
  int sent_at_once_ = 0;
  absl::Status first_sent_;
  Mutex mu_;
  SteadyCondVar changed_;
  std::deque<uint32_t> queue_ ABSL_GUARDED_BY(mu_);
  const Packet* last_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;  // last: everything it uses is there
};

// One transfer, on the calling thread.
class Receiver {
 public:
  Receiver(PacketStream& stream, ReceiveTarget& target, const ReceiveOptions& options)
      : stream_(stream), target_(target), options_(options), updater_(target, options) {}

  absl::Status Run() {
    KILN_RETURN_IF_ERROR(updater_.Open());
    CancelRegistration on_cancel = options_.cancel.OnCancel([this] { stream_.Abort(); });
    Requester requester(stream_);
    requester_ = &requester;
    absl::Status status = ReadUntilComplete();
    if (status.ok()) status = FinishTree();
    Packet last;
    last.type = Packet::Type::kFin;
    if (status.ok()) {
      status = requester.Finish(last);
      if (status.ok() && !options_.leave_fin) status = ReadFin();
    } else if (!absl::IsUnavailable(status)) {  // the stream itself works
      last.type = Packet::Type::kErr;
      last.data = std::string(status.message());
      requester.Fail(last);
    }
    if (options_.cancel.Cancelled()) status = options_.cancel.status();
    if (!status.ok()) stream_.Abort();
    requester.Stop();
    return status;
  }

 private:
  struct Wanted {
    Stat stat;
    std::string data;                   // what is held in memory
    std::unique_ptr<ReceiveFile> file;  // once it is too much for that
    int64_t received = 0;
    bool started = false;
  };

  absl::Status Read(Packet* packet) {
    KILN_ASSIGN_OR_RETURN(const bool more, stream_.Read(packet));
    if (!more) return absl::UnavailableError("the sender ended the stream early");
    if (options_.progress) {
      received_bytes_ += static_cast<int64_t>(EncodedSize(*packet));
      options_.progress(received_bytes_);
    }
    if (packet->type == Packet::Type::kErr)
      return absl::UnknownError(absl::StrCat("error from sender: ", packet->data));
    return absl::OkStatus();
  }

  absl::Status ReadUntilComplete() {
    Packet packet;
    while (!listed_ || !wanted_.empty()) {
      KILN_RETURN_IF_ERROR(Read(&packet));
      switch (packet.type) {
        case Packet::Type::kStat:
          KILN_RETURN_IF_ERROR(packet.has_stat ? HandleStat(packet.stat) : HandleListingEnd());
          break;
        case Packet::Type::kData:
          KILN_RETURN_IF_ERROR(HandleData(packet.id, packet.data));
          break;
        case Packet::Type::kFin:
          return absl::InvalidArgumentError(
              listed_ ? absl::StrCat("FIN from the sender while ", wanted_.size(),
                                     " files are missing, one is ",
                                     Quoted(wanted_.begin()->second.stat.path))
                      : "FIN from the sender within the listing");
        default:
          return absl::InvalidArgumentError(absl::StrCat(
              "unexpected packet type ", static_cast<int>(packet.type), " from the sender"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status HandleStat(Stat& stat) {
    if (listed_)
      return absl::InvalidArgumentError(
          absl::StrCat("entry after the end of the listing: ", Quoted(stat.path)));
    const uint32_t id = next_id_++;
    if (next_id_ == 0) return absl::ResourceExhaustedError("more than 2^32 entries");
    KILN_RETURN_IF_ERROR(validator_.Check(stat));
    if (options_.metadata_only) return HandleMetadataOnly(id, stat);
    return Apply(id, stat);
  }

  absl::Status Apply(uint32_t id, Stat& stat) {
    KILN_ASSIGN_OR_RETURN(const bool want, updater_.Entry(&stat));
    if (!want) return absl::OkStatus();
    wanted_[id].stat = std::move(stat);
    requester_->Request(id);
    return absl::OkStatus();
  }

  // Keeps the record; makes only exceptions, and the directories on the way to them.
  absl::Status HandleMetadataOnly(uint32_t id, Stat& stat) {
    if (stat.path == kMetadataFile) return absl::OkStatus();
    const auto size = static_cast<uint32_t>(EncodedSize(stat));
    for (int shift = 0; shift < 32; shift += 8)
      metadata_.push_back(static_cast<char>(size >> shift));
    AppendStat(stat, &metadata_);
    while (!parents_.empty() &&
           !absl::StartsWith(stat.path, absl::StrCat(parents_.back().stat.path, "/")))
      parents_.pop_back();
    if (options_.exception && options_.exception(stat.path)) {
      for (Parent& parent : parents_) {
        if (std::exchange(parent.made, true)) continue;
        Stat copy = parent.stat;
        KILN_RETURN_IF_ERROR(Apply(parent.id, copy));
      }
      if (IsDir(stat.mode)) parents_.push_back(Parent{id, stat, true});
      if (IsHardlink(stat)) return ApplyLink(stat);
      if (!IsDir(stat.mode)) made_.emplace(stat.path, stat.path);
      return Apply(id, stat);
    }
    if (IsDir(stat.mode)) parents_.push_back(Parent{id, stat, false});
    if (IsRegular(stat.mode) && stat.linkname.empty()) left_out_.emplace(stat.path, id);
    return absl::OkStatus();
  }

  // The first link to a file that is left out takes its content, and the others link to that one.
  absl::Status ApplyLink(Stat& link) {
    if (const auto made = made_.find(link.linkname); made != made_.end()) {
      link.linkname = made->second;
      return Apply(0, link);  // nothing is asked for
    }
    const auto left_out = left_out_.find(link.linkname);
    if (left_out == left_out_.end())
      return absl::InvalidArgumentError(absl::StrCat("hard link ", Quoted(link.path), " to ",
                                                     Quoted(link.linkname),
                                                     ", which is no file and is left out"));
    made_.emplace(std::exchange(link.linkname, ""), link.path);
    return Apply(left_out->second, link);
  }

  absl::Status HandleListingEnd() {
    if (listed_) return absl::InvalidArgumentError("second end of the listing");
    listed_ = true;
    return updater_.EndListing();
  }

  absl::Status HandleData(uint32_t id, absl::string_view data) {
    auto it = wanted_.find(id);
    if (it == wanted_.end())
      return absl::InvalidArgumentError(absl::StrCat("invalid file request ", id));
    Wanted& file = it->second;
    if (!std::exchange(file.started, true) && ++open_files_ > kMaxOpenFiles)
      return absl::InvalidArgumentError(absl::StrCat(
          "content of more than ", kMaxOpenFiles, " files at once, at ", Quoted(file.stat.path)));
    if (data.empty()) {
      KILN_RETURN_IF_ERROR(Complete(file));
      --open_files_;
      wanted_.erase(it);
      return absl::OkStatus();
    }
    file.received += static_cast<int64_t>(data.size());
    // A promoted hard link announces 0 and has content all the same (wire.md 3.2).
    if (file.stat.size > 0 && file.received > file.stat.size) return SizeLied(file);
    if (file.file == nullptr && file.data.size() + data.size() <= kBufferedBytes) {
      file.data.append(data.data(), data.size());
      return absl::OkStatus();
    }
    if (file.file == nullptr) {
      KILN_ASSIGN_OR_RETURN(file.file, target_.CreateFile(file.stat));
      KILN_RETURN_IF_ERROR(file.file->Append(file.data));
      std::string().swap(file.data);
    }
    return file.file->Append(data);
  }

  absl::Status Complete(Wanted& file) {
    if (file.stat.size > 0 && file.received != file.stat.size) return SizeLied(file);
    if (file.file != nullptr) return file.file->Close();
    return target_.WriteFile(file.stat, std::move(file.data));
  }

  absl::Status SizeLied(const Wanted& file) {
    return absl::DataLossError(absl::StrCat(
        "size of ", Quoted(file.stat.path), " does not match: ", file.stat.size,
        " bytes announced, ", file.received, " received (changed while it was sent?)"));
  }

  absl::Status FinishTree() {
    KILN_RETURN_IF_ERROR(updater_.Finish());
    if (!options_.metadata_only) return absl::OkStatus();
    Stat stat;
    stat.path = kMetadataFile;
    stat.mode = 0644;
    stat.size = static_cast<int64_t>(metadata_.size());
    if (options_.map) options_.map(&stat);
    KILN_RETURN_IF_ERROR(target_.WriteFile(stat, std::move(metadata_)));
    return target_.Flush();
  }

  absl::Status ReadFin() {
    Packet packet;
    KILN_RETURN_IF_ERROR(Read(&packet));
    if (packet.type == Packet::Type::kFin) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("packet type ", static_cast<int>(packet.type),
                                                   " from the sender in place of FIN"));
  }

  struct Parent {
    uint32_t id;
    Stat stat;
    bool made;
  };

  PacketStream& stream_;
  ReceiveTarget& target_;
  const ReceiveOptions& options_;
  TreeUpdater updater_;
  ListingValidator validator_;
  Requester* requester_ = nullptr;
  uint32_t next_id_ = 0;
  bool listed_ = false;
  size_t open_files_ = 0;
  int64_t received_bytes_ = 0;
  absl::flat_hash_map<uint32_t, Wanted> wanted_;
  // Metadata-only transfers.
  std::string metadata_;
  std::vector<Parent> parents_;
  absl::flat_hash_map<std::string, uint32_t> left_out_;  // files, and how to ask for them
  absl::flat_hash_map<std::string, std::string> made_;   // what links name, and where that is
};

// Packets from memory; writes go nowhere.
class BufferStream : public PacketStream {
 public:
  explicit BufferStream(absl::string_view bytes) : rest_(bytes) {}

  absl::StatusOr<bool> Read(Packet* packet) override {
    if (rest_.empty()) return false;
    uint64_t size = 0;
    for (int shift = 0;; shift += 7) {
      if (rest_.empty() || shift > 28) return absl::InvalidArgumentError("malformed length");
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      size |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) break;
    }
    if (size > rest_.size()) return absl::InvalidArgumentError("truncated packet");
    KILN_RETURN_IF_ERROR(ParsePacket(rest_.substr(0, size), packet));
    rest_.remove_prefix(size);
    return true;
  }
  absl::Status Write(const Packet&) override { return absl::OkStatus(); }
  void Abort() override {}

 private:
  absl::string_view rest_;
};

}  // namespace

absl::Status Receive(PacketStream& stream, ReceiveTarget& target, const ReceiveOptions& options) {
  return Receiver(stream, target, options).Run();
}

absl::Status ReceiveBuffer(absl::string_view packets, ReceiveTarget& target,
                           const ReceiveOptions& options) {
  BufferStream stream(packets);
  return Receive(stream, target, options);
}

}  // namespace kiln::fsutil
