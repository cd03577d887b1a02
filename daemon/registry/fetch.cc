// What reads from registries: names, small objects, blobs.
#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "daemon/image/media_types.h"
#include "daemon/registry/endpoint_client.h"
#include "daemon/registry/http_registry.h"
#include "daemon/registry/referrers.h"
#include "daemon/registry/response_error.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr int64_t kMaxManifest = 4 << 20;
constexpr int64_t kMaxConfig = 8 << 20;
constexpr int64_t kMaxSmall = 64 << 20;
constexpr char kManifestTypes[] =
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";
constexpr char kEncodings[] = "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5";

bool IsManifestType(absl::string_view type) { return IsIndex(type) || IsManifest(type); }

std::string TargetOf(const store::Descriptor& descriptor) {
  return absl::StrCat(IsManifestType(descriptor.media_type) ? "/manifests/" : "/blobs/",
                      descriptor.digest.ToString());
}

std::string NameOf(const Reference& repository, const store::Descriptor& descriptor) {
  return absl::StrCat(repository.Repository(), "@", descriptor.digest.ToString());
}

int64_t SmallLimit(absl::string_view type) {
  if (IsManifestType(type)) return kMaxManifest;
  return type == kOciConfig || type == kDockerConfig ? kMaxConfig : kMaxSmall;
}

// What a response says of a manifest; the digest is empty and the size -1 when it does not.
store::Descriptor Announced(const HttpResponse& response) {
  store::Descriptor out;
  const std::string& type = response.Header("content-type");
  out.media_type = std::string(absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
  absl::StatusOr<Digest> digest = Digest::Parse(response.Header("docker-content-digest"));
  if (digest.ok()) out.digest = *digest;
  if (!absl::SimpleAtoi(response.Header("content-length"), &out.size_bytes)) out.size_bytes = -1;
  return out;
}

// Gathers a body of bounded size.
std::function<absl::Status(absl::string_view)> Gather(std::string* out, int64_t limit) {
  return [out, limit](absl::string_view data) -> absl::Status {
    if (static_cast<int64_t>(out->size() + data.size()) > limit)
      return absl::ResourceExhaustedError(absl::StrCat("it is larger than ", limit, " bytes"));
    out->append(data.data(), data.size());
    return absl::OkStatus();
  };
}

absl::Status CheckKind(absl::string_view type) {
  if (type == "text/plain" || absl::StrContains(type, "distribution.manifest.v1+"))
    return absl::FailedPreconditionError(
        "it is an image in schema 1, which is not supported: push it again with a newer client");
  return absl::OkStatus();
}

// HEAD, or GET where that is what the registry takes or what tells enough.
absl::StatusOr<store::Descriptor> ResolveAt(EndpointClient& client, const std::string& target) {
  EndpointRequest request;
  request.method = "HEAD";
  request.target = target;
  request.headers = {{"Accept", kManifestTypes}};
  request.json = true;
  KILN_ASSIGN_OR_RETURN(HttpResponse response, client.Do(request));
  if (response.status == 200) {
    store::Descriptor found = Announced(response);
    KILN_RETURN_IF_ERROR(CheckKind(found.media_type));
    if (!found.digest.empty() && found.size_bytes > 0) return found;
  } else if (response.status == 404 || response.status == 429 || response.status >= 500) {
    return ResponseError("HEAD", client.UrlOf(request), response);
  }
  std::string body;
  request.method = "GET";
  request.accept_encoding = kEncodings;
  request.sink = Gather(&body, kMaxManifest);
  KILN_ASSIGN_OR_RETURN(response, client.Do(request));
  if (response.status != 200) return ResponseError("GET", client.UrlOf(request), response);
  store::Descriptor found = Announced(response);
  KILN_RETURN_IF_ERROR(CheckKind(found.media_type));
  const Digest announced = std::exchange(found.digest, Digest::Of(body));
  if (!announced.empty() && announced != found.digest)
    return absl::DataLossError(absl::StrCat("its bytes are ", found.digest.ToString(),
                                            ", the registry said ", announced.ToString()));
  found.size_bytes = static_cast<int64_t>(body.size());
  return found;
}

// One blob as it comes in, over several requests if need be.
struct Transfer {
  const store::Descriptor& descriptor;
  const std::function<absl::Status(absl::string_view)>& sink;
  int64_t offset;  // of the next byte
  std::optional<Sha256> hash = std::nullopt;
  absl::Status sink_status = absl::OkStatus();  // what the taker of the bytes met

  absl::Status Take(absl::string_view data) {
    const int64_t size = descriptor.size_bytes;
    if (size > 0 && offset + static_cast<int64_t>(data.size()) > size)
      return absl::DataLossError(
          absl::StrCat("more bytes than the ", descriptor.size_bytes, " announced"));
    if (hash.has_value()) hash->Update(data);
    sink_status = sink(data);
    if (sink_status.ok()) offset += static_cast<int64_t>(data.size());
    return sink_status;
  }
};

// Where the bytes of a response start; kFailedPrecondition when that is past what is wanted.
absl::StatusOr<int64_t> StartOf(const HttpResponse& response, int64_t wanted) {
  if (response.status != 206) return 0;
  absl::string_view range = response.Header("content-range");
  int64_t start = 0;
  if (!absl::ConsumePrefix(&range, "bytes ") ||
      !absl::SimpleAtoi(range.substr(0, range.find('-')), &start) || start > wanted || start < 0)
    return absl::FailedPreconditionError(absl::StrCat("asked for bytes from ", wanted,
                                                      " on, got the range \"",
                                                      response.Header("content-range"), "\""));
  return start;
}

// One request for what is missing.
absl::Status FetchRest(EndpointClient& client, const std::string& target, Transfer& transfer) {
  EndpointRequest request;
  request.target = target;
  request.headers = {{"Accept", absl::StrCat(transfer.descriptor.media_type.empty()
                                                 ? ""
                                                 : transfer.descriptor.media_type + ", ",
                                             "*/*")}};
  const int64_t wanted = transfer.offset;
  if (wanted > 0) {
    request.headers.emplace_back("Range", absl::StrCat("bytes=", wanted, "-"));
    // A range of compressed bytes would be of no use.
    request.headers.emplace_back("Accept-Encoding", "identity");
  } else {
    request.accept_encoding = kEncodings;
  }
  int64_t skip = 0;
  request.begin = [&](const HttpResponse& response) -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const int64_t start, StartOf(response, wanted));
    skip = wanted - start;
    return absl::OkStatus();
  };
  request.sink = [&](absl::string_view data) -> absl::Status {
    const size_t drop = static_cast<size_t>(std::min<int64_t>(skip, data.size()));
    skip -= static_cast<int64_t>(drop);
    data.remove_prefix(drop);
    return data.empty() ? absl::OkStatus() : transfer.Take(data);
  };
  KILN_ASSIGN_OR_RETURN(const HttpResponse response, client.Do(request));
  if (response.status != 200 && response.status != 206)
    return ResponseError("GET", client.UrlOf(request), response);
  if (transfer.offset < transfer.descriptor.size_bytes)
    return absl::UnavailableError(absl::StrCat("GET ", RedactUrl(client.UrlOf(request)),
                                               ": unexpected end after ", transfer.offset, " of ",
                                               transfer.descriptor.size_bytes, " bytes"));
  return absl::OkStatus();
}

// Reopens a transfer that breaks off, for as long as it gets further. Without a byte more it is
// over: whether to wait and ask again is decided in one place, WithRetries.
absl::Status FetchAt(EndpointClient& client, const std::string& target, Transfer& transfer,
                     const CancelToken& cancel) {
  for (;;) {
    const int64_t before = transfer.offset;
    absl::Status status = FetchRest(client, target, transfer);
    if (status.ok() || !transfer.sink_status.ok() || cancel.Cancelled()) return status;
    const HttpFailure failure = FailureOf(status);
    const bool broke = failure == HttpFailure::kTransfer ||
                       (failure == HttpFailure::kNone && absl::IsUnavailable(status));
    if (!broke || transfer.offset == before) return status;
  }
}

}  // namespace

absl::StatusOr<store::Descriptor> HttpRegistry::Resolve(const Reference& reference,
                                                        const RegistryCall& call) {
  store::Descriptor found;
  const auto resolve = [&](const std::string& target) {
    return OnAnyEndpoint(reference, call, [&](EndpointClient& client) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(found, ResolveAt(client, target));
      if (reference.digest.has_value() && found.digest != *reference.digest)
        return absl::DataLossError(
            absl::StrCat("the registry answered with another digest, ", found.digest.ToString()));
      return absl::OkStatus();
    });
  };
  const std::string name =
      reference.digest.has_value() ? reference.digest->ToString() : reference.tag;
  absl::Status status = WithRetries(call, [&] { return resolve("/manifests/" + name); });
  if (absl::IsNotFound(status) && reference.digest.has_value()) {
    const absl::Status blob = WithRetries(call, [&] { return resolve("/blobs/" + name); });
    if (blob.ok()) status = blob;
  }
  if (absl::IsNotFound(status))
    return absl::NotFoundError(absl::StrCat(reference.ToString(), ": not found"));
  KILN_RETURN_IF_ERROR(Outcome(call, status, absl::StrCat("resolve ", reference.ToString())));
  if (found.size_bytes > kMaxManifest)
    return absl::ResourceExhaustedError(absl::StrCat("resolve ", reference.ToString(),
                                                     ": the manifest has ", found.size_bytes,
                                                     " bytes, more than ", kMaxManifest));
  return found;
}

absl::StatusOr<std::string> HttpRegistry::FetchSmall(const Reference& repository,
                                                     const store::Descriptor& descriptor,
                                                     const RegistryCall& call) {
  const std::string name = NameOf(repository, descriptor);
  const int64_t limit = SmallLimit(descriptor.media_type);
  if (descriptor.size_bytes > limit)
    return absl::ResourceExhaustedError(absl::StrCat(
        "fetch ", name, ": it has ", descriptor.size_bytes, " bytes, more than ", limit));
  std::string body;
  const absl::Status status = WithRetries(call, [&] {
    return OnAnyEndpoint(repository, call, [&](EndpointClient& client) -> absl::Status {
      body.clear();
      EndpointRequest request;
      request.target = TargetOf(descriptor);
      request.headers = {{"Accept", absl::StrCat(descriptor.media_type, ", */*")}};
      request.accept_encoding = kEncodings;
      request.json = absl::EndsWith(descriptor.media_type, "+json");
      request.begin = [&](const HttpResponse&) {
        body.clear();
        return absl::OkStatus();
      };
      request.sink = Gather(&body, descriptor.size_bytes > 0 ? descriptor.size_bytes : limit);
      KILN_ASSIGN_OR_RETURN(const HttpResponse response, client.Do(request));
      if (response.status != 200) return ResponseError("GET", client.UrlOf(request), response);
      const Digest got = Digest::Of(body);
      if (got == descriptor.digest) return absl::OkStatus();
      return absl::DataLossError(
          absl::StrCat("digest mismatch: ", client.endpoint().host, " sent ", got.ToString()));
    });
  });
  if (absl::IsNotFound(status)) return absl::NotFoundError(absl::StrCat(name, ": not found"));
  KILN_RETURN_IF_ERROR(Outcome(call, status, absl::StrCat("fetch ", name)));
  return body;
}

absl::StatusOr<std::string> HttpRegistry::FetchReferrers(const Reference& repository,
                                                         const Digest& subject,
                                                         const RegistryCall& call) {
  std::string body;
  const auto fetch = [&](const std::string& target) {
    return OnAnyEndpoint(repository, call, [&](EndpointClient& client) -> absl::Status {
      EndpointRequest request;
      request.target = target;
      request.headers = {{"Accept", absl::StrCat(kOciIndex, ", */*")}};
      request.accept_encoding = kEncodings;
      request.json = true;
      request.begin = [&](const HttpResponse&) {
        body.clear();
        return absl::OkStatus();
      };
      request.sink = Gather(&body, kMaxManifest);
      KILN_ASSIGN_OR_RETURN(const HttpResponse response, client.Do(request));
      return response.status == 200 ? absl::OkStatus()
                                    : ResponseError("GET", client.UrlOf(request), response);
    });
  };
  absl::Status status;
  for (const std::string& target : {absl::StrCat("/referrers/", subject.ToString()),
                                    absl::StrCat("/manifests/", ReferrersTag(subject))}) {
    status = WithRetries(call, [&] { return fetch(target); });
    if (!absl::IsNotFound(status)) break;
  }
  if (absl::IsNotFound(status)) return std::string();
  KILN_RETURN_IF_ERROR(Outcome(
      call, status,
      absl::StrCat("list what refers to ", repository.Repository(), "@", subject.ToString())));
  return body;
}

absl::Status HttpRegistry::FetchBlob(const Reference& repository,
                                     const store::Descriptor& descriptor, int64_t offset,
                                     const RegistryCall& call,
                                     const std::function<absl::Status(absl::string_view)>& sink) {
  const std::string name = NameOf(repository, descriptor);
  Transfer transfer{descriptor, sink, offset};
  if (offset == 0) transfer.hash.emplace();
  const auto stop = [&] { return !transfer.sink_status.ok(); };
  std::set<std::string> mirrors;  // that some of the bytes came from
  const auto fetch = [&]() -> absl::Status {
    for (const std::string& url : descriptor.urls) {
      if (!absl::StartsWith(url, "https://") && !absl::StartsWith(url, "http://")) continue;
      Endpoint elsewhere;
      elsewhere.host = elsewhere.url = url;
      elsewhere.only_public_addresses = !IsLoopbackHost(repository.domain);
      EndpointClient client(shared_.get(), elsewhere, {}, call, false);
      const absl::Status status = FetchAt(client, url, transfer, call.cancel);
      if (status.ok() || call.cancel.Cancelled() || stop()) return status;
    }
    return OnAnyEndpoint(
        repository, call,
        [&](EndpointClient& client) -> absl::Status {
          const std::string host = client.endpoint().host;
          if (!client.is_last() && shared_->IsDistrusted(host, descriptor.digest))
            return absl::UnavailableError(absl::StrCat(host, " has other bytes"));
          const int64_t before = transfer.offset;
          absl::Status status = FetchAt(client, TargetOf(descriptor), transfer, call.cancel);
          if (!client.is_last() && transfer.offset > before) mirrors.insert(host);
          return status;
        },
        stop);
  };
  const absl::Status status = WithRetries(
      call,
      [&] {
        absl::Status fetched = fetch();
        return stop() ? absl::OkStatus() : fetched;
      },
      [&] { return transfer.offset; });
  KILN_RETURN_IF_ERROR(transfer.sink_status);
  if (absl::IsNotFound(status)) return absl::NotFoundError(absl::StrCat(name, ": not found"));
  KILN_RETURN_IF_ERROR(Outcome(call, status, absl::StrCat("fetch ", name)));
  if (!transfer.hash.has_value()) return absl::OkStatus();
  const Digest got = transfer.hash->Finish();
  if (got == descriptor.digest) return absl::OkStatus();
  const std::string what =
      absl::StrCat("fetch ", name, ": digest mismatch: the bytes are ", got.ToString());
  if (mirrors.empty()) return absl::DataLossError(what);
  for (const std::string& mirror : mirrors) shared_->Distrust(mirror, descriptor.digest);
  return absl::AbortedError(
      absl::StrCat(what, "; not asked for them again: ", absl::StrJoin(mirrors, ", ")));
}

absl::StatusOr<bool> HttpRegistry::HasBlob(const Reference& repository,
                                           const store::Descriptor& descriptor,
                                           const RegistryCall& call) {
  const absl::Status status = WithRetries(call, [&] {
    return OnAnyEndpoint(repository, call, [&](EndpointClient& client) -> absl::Status {
      EndpointRequest request;
      request.method = "HEAD";
      request.target = TargetOf(descriptor);
      request.headers = {{"Accept", "*/*"}};
      KILN_ASSIGN_OR_RETURN(const HttpResponse response, client.Do(request));
      return response.status == 200 ? absl::OkStatus()
                                    : ResponseError("HEAD", client.UrlOf(request), response);
    });
  });
  if (absl::IsNotFound(status)) return false;
  KILN_RETURN_IF_ERROR(
      Outcome(call, status, absl::StrCat("look for ", NameOf(repository, descriptor))));
  return true;
}

}  // namespace kiln::daemon
