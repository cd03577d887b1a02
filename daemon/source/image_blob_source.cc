#include "daemon/source/image_blob_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/registry/image_reader.h"
#include "daemon/session/session_blob.h"
#include "daemon/source/go_values.h"
#include "daemon/source/http_names.h"
#include "daemon/source/transfer_progress.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

struct BlobSpec {
  ImageLocation location;
  std::string filename, record_type;
  int64_t perm = 0, uid = 0, gid = 0;

  const Digest& digest() const { return *location.reference.digest; }
};

absl::Status SetAttribute(const std::string& key, const std::string& value, BlobSpec* spec) {
  if (key == "http.filename") {
    spec->filename = value;
  } else if (key == "http.perm") {
    KILN_ASSIGN_OR_RETURN(spec->perm, ParseGoInt(key, value));
  } else if (key == "http.uid") {
    KILN_ASSIGN_OR_RETURN(spec->uid, ParseGoInt(key, value));
  } else if (key == "http.gid") {
    KILN_ASSIGN_OR_RETURN(spec->gid, ParseGoInt(key, value));
  } else if (key == "image.recordtype") {
    spec->record_type = value;
  } else if (key == "oci.session") {
    spec->location.store_session_id = value;
  } else if (key == "oci.store") {
    spec->location.store_id = value;
  }
  return absl::OkStatus();
}

class BlobInstance : public SourceInstance {
 public:
  BlobInstance(BlobSpec spec, store::RefStore* refs, Registry* registry, SessionFinder* sessions)
      : spec_(std::move(spec)), refs_(refs), registry_(registry), sessions_(sessions) {}

  absl::StatusOr<SourceKey> Key(solver::OpContext&, int) override {
    GoJson json;
    json.BeginObject().Key("Digest").String(spec_.digest().ToString());
    json.Key("Filename").String(spec_.filename).Key("Perm").Int(spec_.perm);
    json.Key("UID").Int(spec_.uid).Key("GID").Int(spec_.gid).EndObject();
    return SourceKey{Digest::Of(json.text()).ToString(), spec_.digest().ToString(), true};
  }

  absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext& context) override;

 private:
  absl::Status Fetch(solver::OpContext& context, const ByteSink& sink);

  const BlobSpec spec_;
  store::RefStore* const refs_;
  Registry* const registry_;
  SessionFinder* const sessions_;
};

absl::Status BlobInstance::Fetch(solver::OpContext& context, const ByteSink& sink) {
  const std::vector<std::string> ids = spec_.location.Sessions(context.SessionIds());
  if (!spec_.location.oci_layout) {
    store::Descriptor blob;
    blob.digest = spec_.digest();
    RegistryCall call;
    call.session_ids = ids;
    call.cancel = context.cancel();
    return registry_->FetchBlob(spec_.location.reference, blob, 0, call, sink);
  }
  int64_t offset = 0;
  return sessions_->Any(ids, context.cancel(), [&](Session& session) {
    return ReadSessionBlob(session, absl::StrCat("oci:", spec_.location.store_id), spec_.digest(),
                           offset, context.cancel(), [&](absl::string_view data) {
                             offset += static_cast<int64_t>(data.size());
                             return sink(data);
                           });
  });
}

absl::StatusOr<store::RefPtr> BlobInstance::Snapshot(solver::OpContext& context) {
  const std::string name = spec_.location.reference.ToString();
  store::RefOptions options;
  options.description = absl::StrCat("blob ", name);
  if (!spec_.record_type.empty()) options.record_type = spec_.record_type;
  KILN_ASSIGN_OR_RETURN(const std::unique_ptr<store::MutableRef> target,
                        refs_->New(nullptr, options));
  store::Attributes attributes;
  attributes.uid = static_cast<uint32_t>(spec_.uid);
  attributes.gid = static_cast<uint32_t>(spec_.gid);
  attributes.mode = spec_.perm == 0 ? 0600 : static_cast<uint32_t>(spec_.perm & 0777);
  attributes.mtime = absl::UnixEpoch();
  const std::string file_name =
      DownloadName("", spec_.filename.empty() ? spec_.digest().hex() : spec_.filename, "");
  KILN_ASSIGN_OR_RETURN(std::unique_ptr<store::TreeFile> file,
                        target->writer().CreateFile(absl::StrCat("/", file_name), -1, attributes));
  Sha256 hash;
  int64_t received = 0;
  {
    TransferProgress progress(context.progress(), spec_.digest().ToString(), "downloading");
    KILN_RETURN_IF_ERROR(Fetch(context, [&](absl::string_view data) -> absl::Status {
      hash.Update(data);
      received += static_cast<int64_t>(data.size());
      progress.Update(received);
      return file->Append(data);
    }));
  }
  if (const Digest got = hash.Finish(); got != spec_.digest())
    return absl::DataLossError(
        absl::StrCat("blob ", name, ": digest mismatch: the bytes are ", got.ToString()));
  KILN_RETURN_IF_ERROR(file->Close());
  file.reset();
  return target->Commit();
}

}  // namespace

absl::StatusOr<std::shared_ptr<SourceInstance>> ImageBlobSource::Resolve(const SourceSpec& spec) {
  BlobSpec blob;
  absl::string_view reference = spec.identifier;
  blob.location.oci_layout = absl::ConsumePrefix(&reference, "oci-layout+blob://");
  if (!blob.location.oci_layout) absl::ConsumePrefix(&reference, "docker-image+blob://");
  KILN_ASSIGN_OR_RETURN(blob.location.reference, Reference::ParseStrict(reference));
  if (!blob.location.reference.digest.has_value())
    return absl::InvalidArgumentError(
        absl::StrCat(spec.identifier, ": a blob source must have a digest"));
  for (const auto& [key, value] : spec.attrs)
    KILN_RETURN_IF_ERROR(Annotate(SetAttribute(key, value, &blob), spec.identifier));
  if (blob.location.oci_layout && blob.location.store_id.empty())
    return absl::InvalidArgumentError("oci-layout blob source requires store id");
  return std::make_shared<BlobInstance>(std::move(blob), refs_, registry_, sessions_);
}

}  // namespace kiln::daemon
