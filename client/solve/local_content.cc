#include "client/solve/local_content.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/session/oci_index.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr char kExport[] = "export";  // the daemon's word for the one store of an export

// The names of stores travel as metadata, which takes printable ASCII only.
std::string StoreName(const std::string& folder) {
  std::string name;
  for (const char c : folder) {
    if (absl::ascii_isprint(static_cast<unsigned char>(c)) && c != '%') {
      name.push_back(c);
    } else {
      absl::StrAppend(&name, "%", absl::BytesToHexString(absl::string_view(&c, 1)));
    }
  }
  return name;
}

std::string Attr(const std::map<std::string, std::string>& attrs, const std::string& key) {
  const auto found = attrs.find(key);
  return found == attrs.end() ? "" : found->second;
}

}  // namespace

absl::StatusOr<LocalContent> LocalContent::Prepare(SolveOptions* options) {
  LocalContent content;
  int number = 0;
  for (CacheEntry& entry : options->cache_exports) {
    if (entry.type == "inline") continue;  // it has no answer of its own
    if (entry.type == "local") KILN_RETURN_IF_ERROR(content.AddCacheExport(number, &entry));
    ++number;
  }
  for (CacheEntry& entry : options->cache_imports)
    if (entry.type == "local") KILN_RETURN_IF_ERROR(content.AddCacheImport(&entry));
  for (const ExportRequest& output : options->outputs)
    if (output.target.kind == ExportTarget::Kind::kLayout)
      KILN_RETURN_IF_ERROR(content.AddExport(output));
  for (const auto& [name, folder] : options->oci_layouts)
    content.stores_[absl::StrCat("oci:", name)] = {folder, /*writable=*/false};
  return content;
}

absl::Status LocalContent::AddCacheExport(int number, CacheEntry* entry) {
  const std::string folder = Attr(entry->attrs, "dest");
  if (folder.empty()) return absl::InvalidArgumentError("local cache exporter requires dest");
  CacheTarget target{folder, Attr(entry->attrs, "tag"), Attr(entry->attrs, "reset") == "true",
                     absl::StrCat("cache.manifest.", number)};
  if (target.tag.empty()) target.tag = "latest";
  caches_.push_back(std::move(target));
  entry->attrs["dest"] = StoreName(folder);
  stores_[absl::StrCat("local:", StoreName(folder))] = {folder, /*writable=*/true};
  return absl::OkStatus();
}

absl::Status LocalContent::AddCacheImport(CacheEntry* entry) {
  const std::string folder = Attr(entry->attrs, "src");
  if (folder.empty()) return absl::InvalidArgumentError("local cache importer requires src");
  if (Attr(entry->attrs, "digest").empty()) {
    const std::string tag = Attr(entry->attrs, "tag");
    KILN_ASSIGN_OR_RETURN(entry->attrs["digest"],
                          OciIndex(folder).Find(tag.empty() ? "latest" : tag));
  }
  entry->attrs["src"] = StoreName(folder);
  // Writable when it is written to as well.
  stores_.try_emplace(absl::StrCat("local:", StoreName(folder)), ContentFolder{folder, false});
  return absl::OkStatus();
}

absl::Status LocalContent::AddExport(const ExportRequest& output) {
  if (!export_folder_.empty())
    return absl::InvalidArgumentError("only one output may have tar=false");
  export_folder_ = output.target.path;
  stores_[kExport] = {export_folder_, /*writable=*/true};
  return absl::OkStatus();
}

absl::Status LocalContent::Finish(
    const std::map<std::string, std::string>& exporter_response) const {
  // buildkitd answers with one descriptor however many caches there are.
  const auto numbered = exporter_response.lower_bound("cache.manifest.");
  const bool one_each =
      numbered != exporter_response.end() && absl::StartsWith(numbered->first, "cache.manifest.");
  for (const CacheTarget& target : caches_) {
    const std::string cache = Attr(exporter_response, one_each ? target.answer : "cache.manifest");
    if (cache.empty()) continue;  // nothing was exported
    const OciIndex index(target.folder);
    KILN_RETURN_IF_ERROR(
        Annotate(index.Put(cache, {{target.tag, true}}), absl::StrCat("cache ", target.folder)));
    if (target.reset) KILN_RETURN_IF_ERROR(index.RemoveUnreachable());
  }
  if (export_folder_.empty()) return absl::OkStatus();
  std::string descriptor;
  const std::string encoded = Attr(exporter_response, "containerimage.descriptor");
  if (!absl::Base64Unescape(encoded, &descriptor) || descriptor.empty())
    return absl::InternalError(
        absl::StrCat("output ", export_folder_, ": the daemon did not say what it wrote"));
  std::vector<OciName> names;
  for (const absl::string_view name :
       absl::StrSplit(Attr(exporter_response, "image.name"), ',', absl::SkipEmpty()))
    names.push_back({std::string(name), false});
  if (names.empty()) names.push_back({"latest", true});
  return Annotate(OciIndex(export_folder_).Put(descriptor, names),
                  absl::StrCat("output ", export_folder_));
}

}  // namespace kiln::client
