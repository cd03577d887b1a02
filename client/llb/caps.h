#pragma once

#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace kiln::client::llb {

// Sorted: those that this builder asks for.
inline constexpr absl::string_view kBuilderCaps[] = {
    "constraints",
    "diffop",
    "exec.meta.base",
    "exec.meta.cdi",
    "exec.meta.linux.resources",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.ulimit",
    "exec.mount.bind",
    "exec.mount.cache",
    "exec.mount.cache.content",
    "exec.mount.cache.sharing",
    "exec.mount.secret",
    "exec.mount.selector",
    "exec.mount.ssh",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.copy.alwaysreplaceexistingdestpaths",
    "file.copy.includeexcludepatterns",
    "file.copy.requiredpaths",
    "file.symlink.create",
    "mergeop",
    "meta.description",
    "meta.exportcache",
    "meta.ignorecache",
    "platform",
    "soruce.http.uidgid",  // the id is misspelled in BuildKit, and that is its name
    "source.git",
    "source.git.checksum",
    "source.git.fetchbycommit",
    "source.git.fullurl",
    "source.git.httpauth",
    "source.git.keepgitdir",
    "source.git.knownsshhosts",
    "source.git.mountsshsock",
    "source.git.mtime",
    "source.git.skipsubmodules",
    "source.http",
    "source.http.auth",
    "source.http.checksum",
    "source.http.perm",
    "source.image",
    "source.image.checksum",
    "source.image.layerlimit",
    "source.image.resolvemode",
    "source.local",
    "source.local.differ",
    "source.local.excludepatterns",
    "source.local.followpaths",
    "source.local.includepatterns",
    "source.local.sessionid",
    "source.local.sharedkeyhint",
    "source.local.unique",
    "source.ocilayout",
};

// One of them, by its id. An id that is not in the list does not compile.
class Cap {
 public:
  consteval Cap(const char* id) {  // NOLINT(google-explicit-constructor): stands for its id
    while (kBuilderCaps[index_] != id) ++index_;
  }
  int index() const { return index_; }

 private:
  int index_ = 0;
};

// Capabilities that a daemon needs for an op. A value; copies are cheap.
class CapSet {
 public:
  CapSet() = default;
  CapSet(std::initializer_list<Cap> caps) {
    for (const Cap cap : caps) Add(cap);
  }

  void Add(Cap cap) { known_ |= uint64_t{1} << cap.index(); }
  // Any id, of a graph that was made elsewhere.
  void AddById(absl::string_view id);
  void AddAll(const CapSet& other);
  friend bool operator==(const CapSet& a, const CapSet& b) {
    return a.known_ == b.known_ && a.other_ == b.other_;
  }
  template <typename H>
  friend H AbslHashValue(H h, const CapSet& caps) {
    return H::combine(std::move(h), caps.known_, caps.other_);
  }
  // In the order of their bytes.
  void ForEach(absl::FunctionRef<void(absl::string_view id)> visit) const;

 private:
  static_assert(std::size(kBuilderCaps) <= 64);

  uint64_t known_ = 0;              // a bit for each of kBuilderCaps
  std::vector<std::string> other_;  // sorted; mostly empty
};

}  // namespace kiln::client::llb
