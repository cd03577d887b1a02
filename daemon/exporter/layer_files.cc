#include "daemon/exporter/layer_files.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/media_types.h"
#include "store/base/status_macros.h"
#include "store/layer/decompressor.h"
#include "store/layer/tar_reader.h"
#include "store/tree.h"

namespace kiln::daemon {

absl::StatusOr<std::optional<Digest>> LayerFiles::Find(const std::string& path,
                                                       const CancelToken& cancel) {
  const std::string clean = store::CleanPath(path);
  for (;;) {
    const auto found = found_.find(clean);
    if (found != found_.end()) return read_[found->second];
    if (unread_.empty()) return std::optional<Digest>();
    KILN_RETURN_IF_ERROR(ReadNewest(cancel));
  }
}

absl::Status LayerFiles::ReadNewest(const CancelToken& cancel) {
  const store::LayerBlob layer = std::move(unread_.back());
  unread_.pop_back();
  const Digest& digest = layer.descriptor.digest;
  read_.push_back(digest);
  if (IsForeignLayer(layer.descriptor.media_type)) return absl::OkStatus();  // not ours to fetch
  KILN_RETURN_IF_ERROR(store_->Ensure(layer, lease_->name(), cancel));
  KILN_ASSIGN_OR_RETURN(Fd file, lease_->blobs().OpenBlob(digest));
  const std::unique_ptr<store::ByteStream> stored = store::NewFileStream(std::move(file));
  KILN_ASSIGN_OR_RETURN(const auto plain, store::NewDecompressor(stored.get()));
  store::TarReader tar(plain.get());
  store::TarEntry entry;
  for (;;) {
    KILN_RETURN_IF_ERROR(cancel.status());
    const absl::StatusOr<bool> more = tar.Next(&entry);
    if (!more.ok()) return Annotate(more.status(), absl::StrCat("read layer ", digest.ToString()));
    if (!*more) return absl::OkStatus();
    std::string path = store::CleanPath(absl::StrCat("/", entry.name));
    if (absl::StartsWith(store::SplitPath(path).second, ".wh.")) continue;
    found_.try_emplace(std::move(path), read_.size() - 1);
  }
}

}  // namespace kiln::daemon
