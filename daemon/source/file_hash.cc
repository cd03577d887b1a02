#include "daemon/source/file_hash.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace kiln::daemon {

namespace {

constexpr size_t kChunk = 256 << 10;

struct Algorithm {
  const char* name;
  const EVP_MD* md;
};
Algorithm Named(FileHash algorithm) {
  switch (algorithm) {
    case FileHash::kSha256:
      return {"sha256", EVP_sha256()};
    case FileHash::kSha384:
      return {"sha384", EVP_sha384()};
    case FileHash::kSha512:
      break;
  }
  return {"sha512", EVP_sha512()};
}

}  // namespace

absl::StatusOr<std::string> HashFile(int fd, FileHash algorithm, absl::string_view suffix,
                                     const CancelToken& cancel) {
  const Algorithm named = Named(algorithm);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  bool fine = hash != nullptr && EVP_DigestInit_ex(hash.get(), named.md, nullptr) == 1;
  std::string chunk(kChunk, '\0');
  while (fine) {
    if (cancel.Cancelled()) return cancel.status();
    const ssize_t got = ::read(fd, chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "read");
    if (got == 0) break;
    fine = EVP_DigestUpdate(hash.get(), chunk.data(), static_cast<size_t>(got)) == 1;
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  fine = fine && EVP_DigestUpdate(hash.get(), suffix.data(), suffix.size()) == 1 &&
         EVP_DigestFinal_ex(hash.get(), digest, &size) == 1;
  if (!fine) return absl::InternalError(absl::StrCat("OpenSSL offers no ", named.name));
  return absl::StrCat(
      named.name, ":",
      absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size)));
}

}  // namespace kiln::daemon
