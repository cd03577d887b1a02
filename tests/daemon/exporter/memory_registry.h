#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/image/manifest.h"
#include "daemon/registry/registry.h"
#include "store/base/mutex.h"

namespace kiln::daemon {

// Registries in memory that take pushes. Refuses a manifest before what it refers to, as real ones
// do.
class MemoryRegistry : public Registry {
 public:
  absl::StatusOr<store::Descriptor> Resolve(const Reference&, const RegistryCall&) override {
    return absl::UnimplementedError("Resolve");
  }
  absl::StatusOr<std::string> FetchSmall(const Reference&, const store::Descriptor&,
                                         const RegistryCall&) override {
    return absl::UnimplementedError("FetchSmall");
  }
  absl::StatusOr<std::string> FetchReferrers(const Reference&, const Digest&,
                                             const RegistryCall&) override {
    return absl::UnimplementedError("FetchReferrers");
  }
  absl::Status FetchBlob(const Reference&, const store::Descriptor&, int64_t, const RegistryCall&,
                         const std::function<absl::Status(absl::string_view)>&) override {
    return absl::UnimplementedError("FetchBlob");
  }
  absl::StatusOr<bool> HasBlob(const Reference& repository, const store::Descriptor& descriptor,
                               const RegistryCall&) override {
    MutexLock lock(&mu_);
    return blobs[repository.Repository()].contains(descriptor.digest);
  }
  absl::StatusOr<PushOutcome> PushBlob(const Reference& repository,
                                       const store::Descriptor& descriptor,
                                       const std::string& mount_from, const RegistryCall& call,
                                       const std::function<absl::StatusOr<BlobReader>()>& open,
                                       const std::function<void(int64_t sent)>& progress) override {
    {
      MutexLock lock(&mu_);
      calls.push_back(call);
      ++asked;
      const int askers = ++askers_[{repository.Repository(), descriptor.digest}];
      asked_again_.SignalAll();
      auto& own = blobs[repository.Repository()];
      if (own.contains(descriptor.digest)) return PushOutcome::kExisted;
      const auto other = blobs.find(absl::StrCat(repository.domain, "/", mount_from));
      if (other != blobs.end() && other->second.contains(descriptor.digest)) {
        own[descriptor.digest] = other->second[descriptor.digest];
        ++mounts;
        return PushOutcome::kMounted;
      }
      const absl::Time end = absl::Now() + linger;
      while (askers == askers_[{repository.Repository(), descriptor.digest}] && absl::Now() < end)
        asked_again_.WaitFor(&mu_, end - absl::Now());
    }
    auto reader = open();
    if (!reader.ok()) return reader.status();
    std::string bytes(7, '\0'), all;
    while (true) {
      auto got = (*reader)(bytes.data(), bytes.size());
      if (!got.ok()) return got.status();
      if (*got == 0) break;
      all.append(bytes, 0, *got);
      progress(static_cast<int64_t>(all.size()));
    }
    if (Digest::Of(all) != descriptor.digest) return absl::DataLossError("digest invalid");
    MutexLock lock(&mu_);
    ++uploads;
    blobs[repository.Repository()][descriptor.digest] = all;
    return PushOutcome::kUploaded;
  }
  absl::Status PushManifest(const Reference& reference, const store::Descriptor& descriptor,
                            absl::string_view bytes, bool by_digest, PutManifest put,
                            const RegistryCall&) override {
    if (!refusal.ok()) return refusal;
    auto references = References(bytes);
    if (!references.ok()) return references.status();
    MutexLock lock(&mu_);
    const std::string repository = reference.Repository();
    puts.push_back(put);
    for (const ManifestEntry& entry : *references) {
      if (!blobs[repository].contains(entry.descriptor.digest) &&
          !manifests.contains(absl::StrCat(repository, "@", entry.descriptor.digest.ToString())))
        return absl::FailedPreconditionError(
            absl::StrCat("blob unknown ", entry.descriptor.digest.ToString()));
    }
    manifests[absl::StrCat(repository, "@", descriptor.digest.ToString())] = std::string(bytes);
    if (!by_digest) manifests[absl::StrCat(repository, ":", reference.tag)] = std::string(bytes);
    return absl::OkStatus();
  }

  std::map<std::string, std::map<Digest, std::string>> blobs;  // by repository
  std::map<std::string, std::string> manifests;                // by "repository:tag", "…@digest"
  std::vector<RegistryCall> calls;
  absl::Status refusal;  // what manifests get
  std::vector<PutManifest> puts;
  // An upload waits so long for somebody else to come with the same blob.
  absl::Duration linger = absl::ZeroDuration();
  int asked = 0, uploads = 0, mounts = 0;  // blobs

 private:
  Mutex mu_;
  CondVar asked_again_;
  std::map<std::pair<std::string, Digest>, int> askers_ ABSL_GUARDED_BY(mu_);
};

}  // namespace kiln::daemon
