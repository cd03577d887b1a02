// What writes to registries: blobs and manifests.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/media_types.h"
#include "daemon/registry/endpoint_client.h"
#include "daemon/registry/http_registry.h"
#include "daemon/registry/referrers.h"
#include "daemon/registry/response_error.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int64_t kChunkBytes = 16 << 20;
constexpr size_t kMaxWarning = 4096;
constexpr size_t kMaxReferrers = 4 << 20;
// A registry may take long over the end of a large blob.
constexpr absl::Duration kCommitTimeout = absl::Minutes(10);
constexpr char kBinary[] = "application/octet-stream";

using BlobOpener = std::function<absl::StatusOr<Registry::BlobReader>()>;

absl::Status CheckDigest(const HttpResponse& response, const Digest& want) {
  const std::string& told = response.Header("docker-content-digest");
  if (told.empty() || told == want.ToString()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the registry stored ", told, " instead of ", want.ToString()));
}

// `Warning: 299 - "text"`
void TellWarnings(const HttpResponse& response, const RegistryCall& call) {
  const std::string& text = response.Header("warning");
  if (!text.empty() && call.log) call.log(absl::StrCat("warning: ", text.substr(0, kMaxWarning)));
}

// One blob on its way into one repository.
class Upload {
 public:
  Upload(EndpointClient& client, const store::Descriptor& descriptor, const RegistryCall& call,
         const BlobOpener& open, const std::function<void(int64_t)>& progress)
      : client_(client), descriptor_(descriptor), call_(call), open_(open), progress_(progress) {}

  absl::StatusOr<bool> Exists() {
    EndpointRequest request;
    request.method = "HEAD";
    request.target = absl::StrCat("/blobs/", descriptor_.digest.ToString());
    KILN_ASSIGN_OR_RETURN(const HttpResponse response, client_.Do(request));
    if (response.status == 200) return true;
    // An answer to HEAD does not say why it refuses; the one to the upload does.
    if (response.status == 404 || response.status == 403) return false;
    return ResponseError("HEAD", client_.UrlOf(request), response);
  }

  // True when the blob was mounted from `from`; else location_ is where to put it. "": no mount.
  absl::StatusOr<bool> Begin(const std::string& from) {
    EndpointRequest request;
    request.method = "POST";
    request.target = "/blobs/uploads/";
    if (!from.empty())
      absl::StrAppend(&request.target, "?mount=", descriptor_.digest.ToString(), "&from=", from);
    request.headers = {{"Content-Length", "0"}};
    KILN_ASSIGN_OR_RETURN(const HttpResponse response, client_.Do(request));
    if (response.status == 201 && !from.empty()) return true;
    if (response.status != 202) return ResponseError("POST", client_.UrlOf(request), response);
    absl::SimpleAtoi(response.Header("oci-chunk-min-length"), &min_chunk_);
    KILN_RETURN_IF_ERROR(Relocate(client_.UrlOf(request), response));
    return false;
  }

  // The whole blob in one request. False when the registry finds that too much.
  absl::StatusOr<bool> PutWhole() {
    EndpointRequest request = PutRequest();
    request.headers = {{"Content-Type", kBinary}};
    request.body = [this]() -> absl::StatusOr<HttpBody> {
      KILN_ASSIGN_OR_RETURN(Registry::BlobReader reader, open_());
      return BodyOf(std::move(reader), descriptor_.size_bytes, 0);
    };
    KILN_ASSIGN_OR_RETURN(const HttpResponse response, client_.Do(request));
    if (response.status == 413) return false;
    KILN_RETURN_IF_ERROR(Finished(request, response));
    return true;
  }

  // In pieces, each in a request of its own.
  absl::Status PutChunks() {
    KILN_RETURN_IF_ERROR(Begin("").status());
    KILN_ASSIGN_OR_RETURN(const Registry::BlobReader reader, open_());
    const int64_t chunk = std::max(min_chunk_, kChunkBytes);
    std::string data;
    for (int64_t offset = 0; offset < descriptor_.size_bytes;
         offset += static_cast<int64_t>(data.size())) {
      data.resize(static_cast<size_t>(std::min(chunk, descriptor_.size_bytes - offset)));
      KILN_RETURN_IF_ERROR(Fill(reader, &data));
      EndpointRequest request;
      request.method = "PATCH";
      request.target = location_;
      request.headers = {{"Content-Type", kBinary},
                         {"Content-Range", absl::StrCat(offset, "-", offset + data.size() - 1)}};
      request.body = [&]() -> absl::StatusOr<HttpBody> { return TextBody(data); };
      KILN_ASSIGN_OR_RETURN(const HttpResponse response, client_.Do(request));
      if (response.status != 202) return UploadError(request, response);
      KILN_RETURN_IF_ERROR(Relocate(location_, response));
      Tell(offset + static_cast<int64_t>(data.size()));
    }
    EndpointRequest request = PutRequest();
    request.headers = {{"Content-Length", "0"}};
    KILN_ASSIGN_OR_RETURN(const HttpResponse response, client_.Do(request));
    return Finished(request, response);
  }

 private:
  EndpointRequest PutRequest() const {
    EndpointRequest request;
    request.method = "PUT";
    request.target = absl::StrCat(location_, absl::StrContains(location_, "?") ? "&" : "?",
                                  "digest=", descriptor_.digest.ToString());
    request.stall_timeout = kCommitTimeout;
    return request;
  }

  absl::Status Relocate(absl::string_view base, const HttpResponse& response) {
    KILN_ASSIGN_OR_RETURN(location_, ResolveUrl(base, response.Header("location")));
    if (absl::StartsWith(client_.endpoint().url, "https:") &&
        !absl::StartsWith(location_, "https:"))
      return absl::FailedPreconditionError(absl::StrCat(
          "the registry wants the blob sent to ", RedactUrl(location_), ", which is not https"));
    return absl::OkStatus();
  }

  absl::Status UploadError(const EndpointRequest& request, const HttpResponse& response) const {
    // The query is the registry's own state: long, and of no use to a reader.
    const std::string url = client_.UrlOf(request);
    const absl::Status status =
        ResponseError(request.method, absl::string_view(url).substr(0, url.find('?')), response);
    // The registry forgot what it began: it was restarted. A new upload may do.
    return response.status == 404 ? absl::UnavailableError(status.message()) : status;
  }

  absl::Status Finished(const EndpointRequest& request, const HttpResponse& response) {
    if (response.status != 201 && response.status != 204) return UploadError(request, response);
    TellWarnings(response, call_);
    return CheckDigest(response, descriptor_.digest);
  }

  // Reads exactly data->size() bytes.
  static absl::Status Fill(const Registry::BlobReader& reader, std::string* data) {
    for (size_t have = 0; have < data->size();) {
      KILN_ASSIGN_OR_RETURN(const size_t n, reader(data->data() + have, data->size() - have));
      if (n == 0) return absl::DataLossError("the blob is shorter than its descriptor says");
      have += n;
    }
    return absl::OkStatus();
  }

  HttpBody BodyOf(Registry::BlobReader reader, int64_t size, int64_t sent) {
    HttpBody body;
    body.size_bytes = size;
    body.read = [this, size, sent, reader = std::move(reader)](
                    char* out, size_t room) mutable -> absl::StatusOr<size_t> {
      KILN_ASSIGN_OR_RETURN(const size_t n, reader(out, room));
      sent += static_cast<int64_t>(n);
      if (n == 0 && sent < size)
        return absl::DataLossError("the blob is shorter than its descriptor says");
      Tell(sent);
      return n;
    };
    return body;
  }

  void Tell(int64_t sent) {
    if (progress_) progress_(sent);
  }

  EndpointClient& client_;
  const store::Descriptor& descriptor_;
  const RegistryCall& call_;
  const BlobOpener& open_;
  const std::function<void(int64_t)>& progress_;
  std::string location_;
  int64_t min_chunk_ = 0;
};

// Keeps the list of what speaks of a manifest where the registry does not: a tag of its own. Others
// may do so at the same time, and the last one wins: the specification has nothing better.
absl::Status AddReferrer(EndpointClient& client, const Referrer& referrer) {
  EndpointRequest request;
  request.target = absl::StrCat("/manifests/", ReferrersTag(referrer.subject));
  request.headers = {{"Accept", kOciIndex}};
  request.json = true;
  std::string index;
  request.begin = [&](const HttpResponse&) {
    index.clear();
    return absl::OkStatus();
  };
  request.sink = [&](absl::string_view data) -> absl::Status {
    if (index.size() + data.size() > kMaxReferrers)
      return absl::ResourceExhaustedError(
          absl::StrCat("it is larger than ", kMaxReferrers, " bytes"));
    index.append(data.data(), data.size());
    return absl::OkStatus();
  };
  KILN_ASSIGN_OR_RETURN(HttpResponse response, client.Do(request));
  if (response.status != 200 && response.status != 404)
    return ResponseError("GET", client.UrlOf(request), response);
  KILN_ASSIGN_OR_RETURN(const std::string updated, WithReferrer(index, referrer));
  if (updated == index) return absl::OkStatus();
  request.method = "PUT";
  request.headers = {{"Content-Type", kOciIndex}};
  request.begin = nullptr;
  request.sink = nullptr;
  request.body = [&]() -> absl::StatusOr<HttpBody> { return TextBody(updated); };
  KILN_ASSIGN_OR_RETURN(response, client.Do(request));
  if (response.status >= 200 && response.status < 300) return absl::OkStatus();
  return ResponseError("PUT", client.UrlOf(request), response);
}

bool IsRefusal(const absl::Status& status) {
  return absl::IsUnauthenticated(status) || absl::IsPermissionDenied(status);
}

}  // namespace

absl::StatusOr<Registry::PushOutcome> HttpRegistry::PushBlob(
    const Reference& repository, const store::Descriptor& descriptor, const std::string& mount_from,
    const RegistryCall& call, const std::function<absl::StatusOr<BlobReader>()>& open,
    const std::function<void(int64_t sent)>& progress) {
  const std::string doing =
      absl::StrCat("push ", repository.Repository(), "@", descriptor.digest.ToString());
  if (descriptor.size_bytes <= 0)
    return absl::InvalidArgumentError(absl::StrCat(doing, ": its size is not known"));
  PushOutcome outcome = PushOutcome::kUploaded;
  const auto push = [&](EndpointClient& client, const std::string& from) -> absl::Status {
    Upload upload(client, descriptor, call, open, progress);
    KILN_ASSIGN_OR_RETURN(const bool exists, upload.Exists());
    outcome = PushOutcome::kExisted;
    if (exists) return absl::OkStatus();
    KILN_ASSIGN_OR_RETURN(const bool mounted, upload.Begin(from));
    outcome = PushOutcome::kMounted;
    if (mounted) return absl::OkStatus();
    outcome = PushOutcome::kUploaded;
    KILN_ASSIGN_OR_RETURN(const bool whole, upload.PutWhole());
    return whole ? absl::OkStatus() : upload.PutChunks();
  };
  const bool may_mount = !mount_from.empty() && mount_from != repository.path;
  absl::Status status = WithRetries(call, [&]() -> absl::Status {
    if (may_mount) {
      absl::Status with_mount =
          OnPushEndpoint(repository, mount_from, call,
                         [&](EndpointClient& client) { return push(client, mount_from); });
      // The other repository may be closed to whom this one is open.
      if (!IsRefusal(with_mount)) return with_mount;
    }
    return OnPushEndpoint(repository, "", call,
                          [&](EndpointClient& client) { return push(client, ""); });
  });
  KILN_RETURN_IF_ERROR(Outcome(call, status, doing));
  return outcome;
}

absl::Status HttpRegistry::PushManifest(const Reference& reference,
                                        const store::Descriptor& descriptor,
                                        absl::string_view bytes, bool by_digest, PutManifest put,
                                        const RegistryCall& call) {
  const std::string name =
      by_digest || reference.tag.empty() ? descriptor.digest.ToString() : reference.tag;
  const std::string doing =
      absl::StrCat("push ", reference.Repository(), name == reference.tag ? ":" : "@", name);
  if (Digest::Of(bytes) != descriptor.digest)
    return absl::DataLossError(
        absl::StrCat(doing, ": the bytes do not have the digest ", descriptor.digest.ToString()));
  const absl::Status status = WithRetries(call, [&] {
    return OnPushEndpoint(reference, "", call, [&](EndpointClient& client) -> absl::Status {
      EndpointRequest request;
      request.target = absl::StrCat("/manifests/", name);
      request.json = true;
      if (put == PutManifest::kUnlessThere) {
        request.method = "HEAD";
        request.headers = {{"Accept", absl::StrCat(descriptor.media_type, ", */*")}};
        KILN_ASSIGN_OR_RETURN(const HttpResponse response, client.Do(request));
        if (response.status == 200 &&
            response.Header("docker-content-digest") == descriptor.digest.ToString())
          return absl::OkStatus();
        if (response.status != 200 && response.status != 404)
          return ResponseError("HEAD", client.UrlOf(request), response);
      }
      request.method = "PUT";
      request.headers = {{"Content-Type", descriptor.media_type}};
      request.body = [bytes]() -> absl::StatusOr<HttpBody> { return TextBody(bytes); };
      KILN_ASSIGN_OR_RETURN(const HttpResponse response, client.Do(request));
      if (response.status != 201 && response.status != 200 && response.status != 202)
        return ResponseError("PUT", client.UrlOf(request), response);
      TellWarnings(response, call);
      KILN_RETURN_IF_ERROR(CheckDigest(response, descriptor.digest));
      const std::optional<Referrer> referrer = ReferrerOf(descriptor, bytes);
      if (!referrer.has_value() || !response.Header("oci-subject").empty()) return absl::OkStatus();
      const std::string list =
          absl::StrCat(reference.Repository(), ":", ReferrersTag(referrer->subject));
      KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold turn,
                            shared_->referrers.Acquire(list, call.cancel));
      return Annotate(AddReferrer(client, *referrer), absl::StrCat("list of referrers ", list));
    });
  });
  return Outcome(call, status, doing);
}

}  // namespace kiln::daemon
