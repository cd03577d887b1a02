#include "daemon/exporter/attestation_files.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/attest/statement.h"
#include "daemon/exporter/memory_file.h"
#include "daemon/image/raw_json.h"
#include "proto/digest.h"
#include "store/base/status_macros.h"
#include "store/fsutil/listing_validator.h"

namespace kiln::daemon {

namespace {

absl::StatusOr<Digest> DigestOf(const Fd& file, const CancelToken& cancel) {
  Sha256 hash;
  std::string buffer(256 << 10, '\0');
  for (;;) {
    if (cancel.Cancelled()) return cancel.status();
    const ssize_t n = ::read(file.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "read a file of the result");
    if (n == 0) return hash.Finish();
    hash.Update(absl::string_view(buffer.data(), static_cast<size_t>(n)));
  }
}

std::string NameOf(const LoadedAttestation& attestation, const AttestationNames& names) {
  const std::string& path = attestation.path;
  std::string name = names.prefix + path.substr(path.rfind('/') + 1);
  if (names.platform.empty()) return name;
  const size_t dot = std::min(name.rfind('.'), name.size());
  return absl::StrCat(name.substr(0, dot), ".", absl::StrReplaceAll(names.platform, {{"/", "_"}}),
                      name.substr(dot));
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> AttestationFiles(
    const std::vector<Attestation>& attestations, const AttestationNames& names,
    fsutil::FileSource& tree, const CancelToken& cancel) {
  std::map<std::string, std::string> files;
  std::vector<Attestation> wanted;
  for (const Attestation& attestation : attestations)
    if (!attestation.inline_only()) wanted.push_back(attestation);
  if (wanted.empty()) return files;
  KILN_ASSIGN_OR_RETURN(const auto loaded, LoadAttestations(wanted, cancel));
  std::vector<StatementSubject> subjects;
  const absl::Status read = tree.Walk([&](fsutil::Stat* stat) -> absl::Status {
    if (!fsutil::IsRegular(stat->mode)) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const Fd file, tree.Open(stat->path));
    KILN_ASSIGN_OR_RETURN(const Digest digest, DigestOf(file, cancel));
    subjects.push_back({stat->path, digest});
    return absl::OkStatus();
  });
  KILN_RETURN_IF_ERROR(read);
  for (const LoadedAttestation& attestation : loaded) {
    const std::string name = NameOf(attestation, names);
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("an attestation cannot be a file of the name \"", name, "\""));
    if (!files.emplace(name, IndentJson(StatementToJson(attestation, subjects))).second)
      return absl::InvalidArgumentError(absl::StrCat("duplicate attestation path name ", name));
  }
  return files;
}

absl::Status TreeWithFiles::Walk(const std::function<absl::Status(fsutil::Stat* stat)>& visit) {
  auto next = files_.begin();
  const auto visit_file = [&]() -> absl::Status {
    fsutil::Stat stat;
    stat.path = next->first;
    stat.mode = 0600;
    stat.size = static_cast<int64_t>(next->second.size());
    stat.mod_time_ns = absl::ToUnixNanos(modified_);
    ++next;
    return visit(&stat);
  };
  const absl::Status walked = tree_->Walk([&](fsutil::Stat* stat) -> absl::Status {
    while (next != files_.end() && fsutil::ComparePath(next->first, stat->path) < 0)
      KILN_RETURN_IF_ERROR(visit_file());
    if (files_.count(stat->path) == 0) return visit(stat);
    if (fsutil::IsDir(stat->mode))
      return absl::FailedPreconditionError(
          absl::StrCat("the result has a directory ", stat->path,
                       ", where an attestation is to go; set attestation-prefix"));
    return absl::OkStatus();
  });
  KILN_RETURN_IF_ERROR(walked);
  while (next != files_.end()) KILN_RETURN_IF_ERROR(visit_file());
  return absl::OkStatus();
}

absl::StatusOr<Fd> TreeWithFiles::Open(const std::string& path) {
  const auto file = files_.find(path);
  return file != files_.end() ? MemoryFile(file->second) : tree_->Open(path);
}

}  // namespace kiln::daemon
