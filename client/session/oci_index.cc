#include "client/session/oci_index.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/session/oci_layout.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kRefName[] = "org.opencontainers.image.ref.name";
constexpr char kImageName[] = "io.containerd.image.name";
constexpr char kIndexType[] = "application/vnd.oci.image.index.v1+json";
constexpr size_t kMaxJsonBytes = 16 << 20;
constexpr absl::Duration kLockTimeout = absl::Seconds(10);
constexpr absl::Duration kLockPause = absl::Milliseconds(20);

// Holds index.json.lock. Whoever releases it removes the file, so that one that was waited for may
// be no longer the one of that name.
class IndexLock {
 public:
  static absl::StatusOr<IndexLock> Take(const std::string& path) {
    for (const absl::Time end = absl::Now() + kLockTimeout;;) {
      KILN_ASSIGN_OR_RETURN(Fd fd, OpenFile(path, O_RDWR | O_CREAT, 0644));
      struct stat opened = {};
      struct stat named = {};
      const bool locked = flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
      if (!locked && errno != EWOULDBLOCK && errno != EINTR)
        return ErrnoStatus(errno, absl::StrCat("lock ", path));
      if (locked && fstat(fd.get(), &opened) == 0 && stat(path.c_str(), &named) == 0 &&
          opened.st_ino == named.st_ino)
        return IndexLock(path, std::move(fd));
      if (absl::Now() > end)
        return absl::AbortedError(absl::StrCat(path, " is held by another process"));
      absl::SleepFor(kLockPause);
    }
  }
  ~IndexLock() {
    if (fd_.valid()) unlink(path_.c_str());
  }
  IndexLock(IndexLock&&) = default;

 private:
  IndexLock(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  Fd fd_;
};

std::string Text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string Annotation(const Json& descriptor, const char* key) {
  const auto found = descriptor.find("annotations");
  return found != descriptor.end() && found->is_object() ? Text(*found, key) : "";
}

absl::StatusOr<Json> ReadIndex(const std::string& folder) {
  const std::string path = absl::StrCat(folder, "/index.json");
  KILN_ASSIGN_OR_RETURN(const std::string text, ReadFileToString(path, kMaxJsonBytes));
  Json index = Json::parse(text, nullptr, false);
  if (!index.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, " is no OCI index"));
  if (!index.contains("manifests") || index["manifests"].is_null())
    index["manifests"] = Json::array();
  for (const Json& entry : index["manifests"])
    if (!index["manifests"].is_array() || !entry.is_object())
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": manifests is no list of descriptors"));
  return index;
}

// What stands for a name in an index: of "host/image:tag", the tag (containerd, archive export).
std::string RefName(const std::string& name) {
  const size_t slash = name.find('/');
  const size_t end =
      slash == std::string::npos ? std::string::npos : name.find_first_of(":@", slash);
  if (end == std::string::npos) return name;
  return name.substr(name[end] == '@' ? end : end + 1);
}

// The digests that a manifest or index names.
void AppendReferences(const Json& object, std::vector<Json>* out) {
  for (const char* key : {"manifests", "layers", "blobs"}) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_array()) continue;
    for (const Json& entry : *found)
      if (entry.is_object()) out->push_back(entry);
  }
  const auto config = object.find("config");
  if (config != object.end() && config->is_object()) out->push_back(*config);
}

}  // namespace

absl::StatusOr<std::string> OciIndex::Find(absl::string_view tag) const {
  KILN_ASSIGN_OR_RETURN(const Json index, ReadIndex(folder_));
  for (const char* key : {kImageName, kRefName})
    for (const Json& entry : index["manifests"])
      if (Annotation(entry, key) == tag) return Text(entry, "digest");
  return absl::NotFoundError(absl::StrCat(folder_, " has no entry \"", tag, "\""));
}

absl::StatusOr<std::string> OciIndex::FindDefault() const {
  absl::StatusOr<std::string> found = Find("latest");
  if (!absl::IsNotFound(found.status())) return found;
  KILN_ASSIGN_OR_RETURN(const Json index, ReadIndex(folder_));
  if (index["manifests"].size() == 1) return Text(index["manifests"][0], "digest");
  return found;
}

absl::Status OciIndex::Put(absl::string_view descriptor, const std::vector<OciName>& names) const {
  const Json entry = Json::parse(descriptor.begin(), descriptor.end(), nullptr, false);
  if (!entry.is_object() || Text(entry, "digest").empty())
    return absl::InvalidArgumentError(
        absl::StrCat("the daemon's descriptor is none: ", descriptor.substr(0, 200)));
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) return ErrnoStatus(error.value(), absl::StrCat("make directory ", folder_));
  const std::string path = absl::StrCat(folder_, "/index.json");
  KILN_ASSIGN_OR_RETURN(const IndexLock lock, IndexLock::Take(path + ".lock"));
  absl::StatusOr<Json> index = ReadIndex(folder_);
  if (absl::IsNotFound(index.status()))
    index = Json{{"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", Json::array()}};
  KILN_RETURN_IF_ERROR(index.status());
  Json& entries = (*index)["manifests"];
  for (const OciName& name : names) {
    const std::string image = name.is_tag ? "" : name.value;
    const std::string ref = name.is_tag ? name.value : RefName(name.value);
    Json kept = Json::array();
    for (Json& other : entries)
      if (Annotation(other, kRefName) != ref || Annotation(other, kImageName) != image)
        kept.push_back(std::move(other));
    Json named = entry;
    if (!image.empty()) named["annotations"][kImageName] = image;
    named["annotations"][kRefName] = ref;
    kept.push_back(std::move(named));
    entries = std::move(kept);
  }
  KILN_RETURN_IF_ERROR(WriteFileAtomic(absl::StrCat(folder_, "/oci-layout"),
                                       "{\"imageLayoutVersion\":\"1.0.0\"}", 0644));
  return WriteFileAtomic(
      path, index->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 0644);
}

absl::Status OciIndex::RemoveUnreachable() const {
  const std::string path = absl::StrCat(folder_, "/index.json");
  KILN_ASSIGN_OR_RETURN(const IndexLock lock, IndexLock::Take(path + ".lock"));
  KILN_ASSIGN_OR_RETURN(const Json index, ReadIndex(folder_));
  const OciLayout layout(folder_);
  std::set<std::string> reachable;
  std::vector<Json> pending;
  AppendReferences(index, &pending);
  while (!pending.empty()) {
    const Json descriptor = std::move(pending.back());
    pending.pop_back();
    const std::string text = Text(descriptor, "digest");
    if (!reachable.insert(text).second) continue;
    const std::string type = Text(descriptor, "mediaType");
    if (!absl::StrContains(type, "index") && !absl::StrContains(type, "manifest")) continue;
    KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(text));
    const absl::StatusOr<std::string> blob =
        ReadFileToString(layout.BlobPath(digest), kMaxJsonBytes);
    if (absl::IsNotFound(blob.status())) continue;  // of a platform that is not here
    KILN_RETURN_IF_ERROR(blob.status());
    const Json object = Json::parse(*blob, nullptr, false);
    if (!object.is_object())
      return absl::DataLossError(absl::StrCat(text, " in ", folder_, " is no manifest"));
    AppendReferences(object, &pending);
  }
  return layout.ForEach([&](const Digest& digest) {
    return reachable.count(digest.ToString()) != 0 ? absl::OkStatus() : layout.Remove(digest);
  });
}

}  // namespace kiln::client
