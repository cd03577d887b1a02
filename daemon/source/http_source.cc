#include "daemon/source/http_source.h"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "daemon/session/services.h"
#include "daemon/source/go_values.h"
#include "daemon/source/http_names.h"
#include "daemon/source/transfer_progress.h"
#include "proto/digest.h"
#include "proto/go_json.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"
#include "store/tree.h"

namespace kiln::daemon {
namespace {

constexpr char kUploadHost[] = "buildkit-session";
// Values kept with a file's record.
constexpr char kChecksumValue[] = "http.checksum";
constexpr char kEtagValue[] = "http.etag";
constexpr char kModTimeValue[] = "http.modtime";
constexpr char kFileNameValue[] = "http.filename";

// The attributes of one http source.
struct HttpSpec {
  std::string url;
  std::optional<Digest> checksum;
  std::string filename;
  int64_t perm = 0, uid = 0, gid = 0;
  std::string auth_secret;
  std::map<std::string, std::string> headers;  // canonical names

  // What a file is kept under: everything that shapes the result.
  std::string IndexKey() const {
    GoJson json;
    json.BeginObject().Key("URL").String(url).Key("Filename").String(filename);
    WriteShape(json);
    json.EndObject();
    return absl::StrCat("http:", Digest::Of(json.text()).ToString());
  }

  void WriteShape(GoJson& json) const {
    json.Key("Perm").Int(perm).Key("UID").Int(uid).Key("GID").Int(gid);
    json.OptString("AuthHeaderSecret", auth_secret);
    WriteHeaders(json);
  }
  void WriteHeaders(GoJson& json) const {
    if (headers.empty()) return;
    json.Key("Header").BeginArray();
    for (const auto& [name, value] : headers)
      json.BeginObject().Key("Name").String(name).Key("Value").String(value).EndObject();
    json.EndArray();
  }
};

// What a URL turned out to hold.
struct Resolved {
  Digest digest;
  std::string filename;
  std::string last_modified;  // as the server said it; "" unknown
  std::string ref_id;         // "" when nothing was downloaded

  std::string Serialize() const {
    return nlohmann::json::array({digest.ToString(), filename, last_modified, ref_id})
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  static absl::StatusOr<Resolved> Parse(const std::string& text) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_array() || json.size() != 4) return absl::InternalError("http resolver value");
    Resolved out;
    KILN_ASSIGN_OR_RETURN(out.digest, Digest::Parse(json[0].get<std::string>()));
    out.filename = json[1].get<std::string>();
    out.last_modified = json[2].get<std::string>();
    out.ref_id = json[3].get<std::string>();
    return out;
  }
};

absl::Status SetNumber(const std::string& attr, const std::string& text, int64_t max,
                       int64_t* value) {
  KILN_ASSIGN_OR_RETURN(*value, ParseGoInt(attr, text));
  if (*value < 0 || *value > max)
    return absl::InvalidArgumentError(
        absl::StrCat("invalid value for ", attr, " \"", text, "\": out of range"));
  return absl::OkStatus();
}

absl::Status SetAttribute(const std::string& key, const std::string& value, HttpSpec* spec) {
  if (key == "http.checksum") {
    absl::StatusOr<Digest> digest = Digest::Parse(value);
    if (!digest.ok()) return Annotate(digest.status(), "invalid value for http.checksum");
    spec->checksum = *digest;
  } else if (key == "http.filename") {
    spec->filename = value;
  } else if (key == "http.perm") {
    return SetNumber(key, value, 07777, &spec->perm);
  } else if (key == "http.uid") {
    return SetNumber(key, value, UINT32_MAX - 1, &spec->uid);
  } else if (key == "http.gid") {
    return SetNumber(key, value, UINT32_MAX - 1, &spec->gid);
  } else if (key == "http.authheadersecret") {
    spec->auth_secret = value;
  } else if (absl::StartsWith(key, "http.sig.")) {
    return absl::UnimplementedError(
        absl::StrCat("signature verification of http sources (", key, ") is not supported"));
  } else if (absl::StartsWith(key, "http.header.")) {
    // Any other header is dropped: it could change what is sent without being part of the key.
    const std::string name = absl::AsciiStrToLower(absl::StripPrefix(key, "http.header."));
    if (name == "accept") spec->headers["Accept"] = value;
    if (name == "user-agent") spec->headers["User-Agent"] = value;
  }
  return absl::OkStatus();
}

// Weak and strong tags are compared alike.
std::string EtagOf(const HttpResponse& response) {
  return std::string(absl::StripPrefix(response.Header("etag"), "W/"));
}

class HttpInstance : public SourceInstance {
 public:
  HttpInstance(HttpSpec spec, store::RefStore* refs, SessionFinder* sessions,
               std::string user_agent, HttpLimits limits)
      : spec_(std::move(spec)),
        index_key_(spec_.IndexKey()),
        refs_(refs),
        sessions_(sessions),
        user_agent_(std::move(user_agent)),
        limits_(std::move(limits)) {}

  absl::StatusOr<SourceKey> Key(solver::OpContext& context, int index) override;
  absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext& context) override;
  absl::StatusOr<SourceDetails> Details(solver::OpContext& context, bool objects) override;
  absl::StatusOr<std::string> Checksum(solver::OpContext& context,
                                       const ChecksumQuestion& question) override;

 private:
  // An earlier download that is still there.
  struct Kept {
    Resolved resolved;
    store::RefPtr ref;
  };

  bool is_upload() const { return UrlHost(spec_.url) == kUploadHost; }
  absl::Status Mismatch(const Digest& got, const Digest& want) const {
    return absl::DataLossError(absl::StrCat("digest mismatch for ", RedactUrl(spec_.url), ": ",
                                            got.ToString(), " (expected: ", want.ToString(), ")"));
  }

  absl::StatusOr<Resolved> ResolveOnce(solver::OpContext& context);
  absl::StatusOr<Resolved> AskServer(solver::OpContext& context);
  absl::StatusOr<std::map<std::string, Kept>> KeptByEtag();
  store::RefPtr FindKept(const Digest& digest);
  absl::StatusOr<HttpRequest> MakeRequest(solver::OpContext& context);
  absl::StatusOr<std::optional<Resolved>> Unchanged(const HttpResponse& response,
                                                    const std::map<std::string, Kept>& kept) const;
  absl::StatusOr<Resolved> Download(solver::OpContext& context, const HttpRequest& request,
                                    const std::map<std::string, Kept>& kept,
                                    const std::optional<Digest>& want);
  absl::Status PullFromClient(solver::OpContext& context, const ByteSink& sink);
  absl::StatusOr<store::RefPtr> Save(std::unique_ptr<store::MutableRef> file,
                                     const Resolved& resolved, const std::string& etag);
  void Remember(const Resolved& resolved, store::RefPtr ref);

  const HttpSpec spec_;
  const std::string index_key_;
  store::RefStore* const refs_;
  SessionFinder* const sessions_;
  const std::string user_agent_;
  const HttpLimits limits_;

  Mutex mu_;
  std::optional<Resolved> resolved_ ABSL_GUARDED_BY(mu_);
  store::RefPtr ref_ ABSL_GUARDED_BY(mu_);  // keeps the download until it is used
};

absl::StatusOr<SourceDetails> HttpInstance::Details(solver::OpContext& context, bool /*objects*/) {
  KILN_ASSIGN_OR_RETURN(const Resolved resolved, ResolveOnce(context));
  SourceDetails details;
  details.filename = resolved.filename;
  details.changed = ParseHttpDate(resolved.last_modified);
  return details;
}

absl::StatusOr<std::string> HttpInstance::Checksum(solver::OpContext& context,
                                                   const ChecksumQuestion& question) {
  KILN_ASSIGN_OR_RETURN(const store::RefPtr ref, Snapshot(context));
  KILN_ASSIGN_OR_RETURN(store::Layers layers, ref->Materialize(context.cancel()));
  const store::TreeReader tree(std::move(layers));
  // The name that a server gave is not told by a pinned digest.
  KILN_ASSIGN_OR_RETURN(const std::vector<store::Entry> files, tree.List("/"));
  if (files.size() != 1)
    return absl::DataLossError(
        absl::StrCat(RedactUrl(spec_.url), ": kept as ", files.size(), " files instead of one"));
  KILN_ASSIGN_OR_RETURN(const Fd file, tree.Open(absl::StrCat("/", files[0].name)));
  absl::StatusOr<std::string> hash =
      HashFile(file.get(), question.algorithm, question.suffix, context.cancel());
  KILN_RETURN_IF_ERROR(Annotate(hash.status(), RedactUrl(spec_.url)));
  return hash;
}

// ---- key ----

absl::StatusOr<SourceKey> HttpInstance::Key(solver::OpContext& context, int /*index*/) {
  KILN_ASSIGN_OR_RETURN(const Resolved resolved, ResolveOnce(context));
  GoJson json;
  json.BeginObject().Key("Filename").String(resolved.filename);
  json.Key("Perm").Int(spec_.perm).Key("UID").Int(spec_.uid).Key("GID").Int(spec_.gid);
  json.Key("Checksum").String(resolved.digest.ToString());
  const std::optional<absl::Time> modified = ParseHttpDate(resolved.last_modified);
  json.OptString("LastModTime", modified.has_value() ? FormatHttpDate(*modified) : "");
  json.OptString("AuthHeaderSecret", spec_.auth_secret);
  spec_.WriteHeaders(json);
  json.EndObject();
  SourceKey key;
  key.key = Digest::Of(json.text()).ToString();
  key.pin = resolved.digest.ToString();
  return key;
}

absl::StatusOr<Resolved> HttpInstance::ResolveOnce(solver::OpContext& context) {
  if (spec_.checksum.has_value()) {
    Resolved pinned;
    pinned.digest = *spec_.checksum;
    pinned.filename = DownloadName(spec_.url, spec_.filename, "");
    return pinned;
  }
  {
    MutexLock lock(&mu_);
    if (resolved_.has_value()) return *resolved_;
  }
  KILN_ASSIGN_OR_RETURN(
      const std::string text,
      context.job_values().GetOrMake(index_key_, [&]() -> absl::StatusOr<std::string> {
        KILN_ASSIGN_OR_RETURN(const Resolved resolved, AskServer(context));
        return resolved.Serialize();
      }));
  KILN_ASSIGN_OR_RETURN(const Resolved resolved, Resolved::Parse(text));
  // Found by another vertex of the job: it may be pruned by now, then Snapshot downloads it again.
  absl::StatusOr<store::RefPtr> ref = refs_->Get(resolved.ref_id);
  Remember(resolved, ref.ok() ? *ref : nullptr);
  return resolved;
}

void HttpInstance::Remember(const Resolved& resolved, store::RefPtr ref) {
  MutexLock lock(&mu_);
  resolved_ = resolved;
  if (ref != nullptr) ref_ = std::move(ref);
}

absl::StatusOr<Resolved> HttpInstance::AskServer(solver::OpContext& context) {
  if (is_upload()) return Download(context, {}, {}, std::nullopt);
  KILN_ASSIGN_OR_RETURN(const auto kept, KeptByEtag());
  KILN_ASSIGN_OR_RETURN(HttpRequest request, MakeRequest(context));
  if (!kept.empty()) {
    const std::string tags = absl::StrJoin(
        kept, ", ", [](std::string* out, const auto& entry) { absl::StrAppend(out, entry.first); });
    request.headers.emplace_back("If-None-Match", tags);
    // Some servers name ETags but do not compare them: ask for the headers alone and compare here.
    request.method = "HEAD";
    absl::StatusOr<HttpResponse> head =
        HttpDo(request, limits_, context.cancel(), nullptr, nullptr);
    if (context.cancel().Cancelled()) return context.cancel().status();
    if (head.ok() && (head->status == 200 || head->status == 304)) {
      KILN_ASSIGN_OR_RETURN(const auto unchanged, Unchanged(*head, kept));
      if (unchanged.has_value()) return *unchanged;
    }
    request.method = "GET";
  }
  return Download(context, request, kept, std::nullopt);
}

absl::StatusOr<std::map<std::string, HttpInstance::Kept>> HttpInstance::KeptByEtag() {
  std::map<std::string, Kept> out;
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> ids, refs_->Search(index_key_));
  for (const std::string& id : ids) {
    absl::StatusOr<std::string> etag = refs_->GetValue(id, kEtagValue);
    absl::StatusOr<std::string> checksum = refs_->GetValue(id, kChecksumValue);
    if (!etag.ok() || etag->empty() || !checksum.ok() || out.count(*etag) != 0) continue;
    absl::StatusOr<Digest> digest = Digest::Parse(*checksum);
    absl::StatusOr<store::RefPtr> ref = refs_->Get(id);
    if (!digest.ok() || !ref.ok()) continue;
    Kept kept;
    kept.ref = *ref;
    kept.resolved.digest = *digest;
    kept.resolved.ref_id = id;
    kept.resolved.filename = refs_->GetValue(id, kFileNameValue).value_or("");
    kept.resolved.last_modified = refs_->GetValue(id, kModTimeValue).value_or("");
    out.emplace(*etag, std::move(kept));
  }
  return out;
}

// The kept file that the server says is current, if it says so.
absl::StatusOr<std::optional<Resolved>> HttpInstance::Unchanged(
    const HttpResponse& response, const std::map<std::string, Kept>& kept) const {
  std::string etag = EtagOf(response);
  // A 304 without a tag answers the only one we asked about.
  if (etag.empty() && response.status == 304 && kept.size() == 1) etag = kept.begin()->first;
  auto it = kept.find(etag);
  if (it == kept.end()) return std::optional<Resolved>();
  return std::make_optional(it->second.resolved);
}

// ---- transfer ----

absl::StatusOr<HttpRequest> HttpInstance::MakeRequest(solver::OpContext& context) {
  HttpRequest request;
  request.url = spec_.url;
  std::map<std::string, std::string> headers = {{"User-Agent", user_agent_}};
  for (const auto& [name, value] : spec_.headers) headers[name] = value;

  struct Candidate {
    std::string secret, prefix;
  };
  std::vector<Candidate> candidates;
  if (!spec_.auth_secret.empty()) {
    candidates.push_back({spec_.auth_secret, ""});
  } else {
    const std::string host = UrlHost(spec_.url);
    candidates.push_back({absl::StrCat("HTTP_AUTH_HEADER_", host), ""});
    candidates.push_back({absl::StrCat("HTTP_AUTH_TOKEN_", host), "Bearer "});  // wins if both
  }
  const std::vector<std::string> ids = context.SessionIds();
  for (const Candidate& candidate : candidates) {
    std::string value;
    absl::Status status =
        sessions_->Any(ids, context.cancel(), [&](Session& session) -> absl::Status {
          KILN_ASSIGN_OR_RETURN(value, GetSecret(session, candidate.secret, context.cancel()));
          return absl::OkStatus();
        });
    if (context.cancel().Cancelled()) return context.cancel().status();
    if (status.ok()) {
      // Secrets read from files end in a line break.
      headers["Authorization"] =
          absl::StrCat(candidate.prefix, absl::StripTrailingAsciiWhitespace(value));
    } else if (!spec_.auth_secret.empty()) {
      return Annotate(status,
                      absl::StrCat("failed to retrieve HTTP auth secret ", spec_.auth_secret));
    }
  }
  request.headers.assign(headers.begin(), headers.end());
  return request;
}

absl::Status HttpInstance::PullFromClient(solver::OpContext& context, const ByteSink& sink) {
  const size_t begin = spec_.url.find('/', spec_.url.find("://") + 3);
  const std::string path = begin == std::string::npos ? "" : spec_.url.substr(begin);
  bool began = false;
  const absl::Status status =
      sessions_->Any(context.SessionIds(), context.cancel(), [&](Session& session) {
        // An upload can be read once: after the first byte there is no second try.
        if (began) return absl::DataLossError("the upload broke off");
        return PullUpload(session, kUploadHost, path, context.cancel(),
                          [&](absl::string_view data) {
                            began = true;
                            return sink(data);
                          });
      });
  if (status.ok() || context.cancel().Cancelled()) return status;
  return Annotate(status, absl::StrCat("no http response from session for ", spec_.url));
}

// Fetches the file into a new ref; `want` is what it must hold.
absl::StatusOr<Resolved> HttpInstance::Download(solver::OpContext& context,
                                                const HttpRequest& request,
                                                const std::map<std::string, Kept>& kept,
                                                const std::optional<Digest>& want) {
  store::RefOptions options;
  options.description = absl::StrCat("http url ", RedactUrl(spec_.url));
  std::unique_ptr<store::MutableRef> target;
  std::unique_ptr<store::TreeFile> file;
  std::unique_ptr<TransferProgress> progress;
  Resolved resolved;
  int64_t received = 0, announced = 0;
  Sha256 hash;

  auto begin = [&](const HttpResponse& response) -> absl::Status {
    if (response.status < 200 || response.status >= 300) return absl::OkStatus();
    resolved.filename =
        DownloadName(spec_.url, spec_.filename, response.Header("content-disposition"));
    resolved.last_modified = response.Header("last-modified");
    announced = ParseGoInt("content-length", response.Header("content-length")).value_or(0);
    store::Attributes attributes;
    attributes.uid = static_cast<uint32_t>(spec_.uid);
    attributes.gid = static_cast<uint32_t>(spec_.gid);
    attributes.mode = spec_.perm == 0 ? 0600 : static_cast<uint32_t>(spec_.perm & 0777);
    attributes.mtime = ParseHttpDate(resolved.last_modified).value_or(absl::UnixEpoch());
    KILN_ASSIGN_OR_RETURN(target, refs_->New(nullptr, options));
    KILN_ASSIGN_OR_RETURN(file,
                          target->writer().CreateFile(absl::StrCat("/", resolved.filename),
                                                      announced > 0 ? announced : -1, attributes));
    progress = std::make_unique<TransferProgress>(
        context.progress(), absl::StrCat("downloading ", resolved.filename), "downloading");
    return absl::OkStatus();
  };
  auto take = [&](absl::string_view data) -> absl::Status {
    hash.Update(data);
    received += static_cast<int64_t>(data.size());
    progress->Update(received, announced);
    return file->Append(data);
  };

  HttpResponse response;
  if (is_upload()) {
    response.status = 200;
    KILN_RETURN_IF_ERROR(begin(response));
    KILN_RETURN_IF_ERROR(PullFromClient(context, take));
  } else {
    KILN_ASSIGN_OR_RETURN(response, HttpDo(request, limits_, context.cancel(), begin, take));
  }
  progress.reset();
  if (response.status == 304) {
    KILN_ASSIGN_OR_RETURN(const auto unchanged, Unchanged(response, kept));
    if (unchanged.has_value()) return *unchanged;
    return absl::FailedPreconditionError(absl::StrCat(
        RedactUrl(spec_.url), ": invalid not-modified ETag: ", response.Header("etag")));
  }
  if (file == nullptr)
    return absl::FailedPreconditionError(
        absl::StrCat("GET ", RedactUrl(spec_.url), ": invalid response status ", response.status));
  resolved.digest = hash.Finish();
  if (want.has_value() && resolved.digest != *want) return Mismatch(resolved.digest, *want);
  KILN_RETURN_IF_ERROR(file->Close());
  file.reset();
  KILN_ASSIGN_OR_RETURN(store::RefPtr ref, Save(std::move(target), resolved, EtagOf(response)));
  resolved.ref_id = ref->id();
  Remember(resolved, std::move(ref));
  return resolved;
}

absl::StatusOr<store::RefPtr> HttpInstance::Save(std::unique_ptr<store::MutableRef> file,
                                                 const Resolved& resolved,
                                                 const std::string& etag) {
  KILN_ASSIGN_OR_RETURN(store::RefPtr ref, file->Commit());
  const std::string& id = ref->id();
  KILN_RETURN_IF_ERROR(refs_->SetValue(id, kChecksumValue, resolved.digest.ToString()));
  KILN_RETURN_IF_ERROR(refs_->SetValue(id, kFileNameValue, resolved.filename));
  KILN_RETURN_IF_ERROR(refs_->SetValue(id, kModTimeValue, resolved.last_modified));
  KILN_RETURN_IF_ERROR(refs_->SetValue(id, kEtagValue, etag));
  // An upload exists once: nobody will ask for it again.
  if (!is_upload()) {
    KILN_RETURN_IF_ERROR(refs_->SetIndexKey(id, index_key_));
    KILN_RETURN_IF_ERROR(refs_->SetRetained(id));
  }
  return ref;
}

// ---- snapshot ----

store::RefPtr HttpInstance::FindKept(const Digest& digest) {
  absl::StatusOr<std::vector<std::string>> ids = refs_->Search(index_key_);
  if (!ids.ok()) return nullptr;
  for (const std::string& id : *ids) {
    absl::StatusOr<std::string> checksum = refs_->GetValue(id, kChecksumValue);
    if (!checksum.ok() || *checksum != digest.ToString()) continue;
    absl::StatusOr<store::RefPtr> ref = refs_->Get(id);
    if (ref.ok()) return *ref;
  }
  return nullptr;
}

absl::StatusOr<store::RefPtr> HttpInstance::Snapshot(solver::OpContext& context) {
  KILN_ASSIGN_OR_RETURN(const Resolved resolved, ResolveOnce(context));
  {
    MutexLock lock(&mu_);
    if (ref_ != nullptr) return ref_;
  }
  if (store::RefPtr kept = FindKept(resolved.digest); kept != nullptr) return kept;
  HttpRequest request;
  if (!is_upload()) {
    KILN_ASSIGN_OR_RETURN(request, MakeRequest(context));
  }
  KILN_RETURN_IF_ERROR(Download(context, request, {}, resolved.digest).status());
  MutexLock lock(&mu_);
  return ref_;
}

}  // namespace

absl::StatusOr<std::shared_ptr<SourceInstance>> HttpSource::Resolve(const SourceSpec& spec) {
  HttpSpec http;
  http.url = spec.identifier;
  if (UrlHost(http.url).empty())
    return absl::InvalidArgumentError(
        absl::StrCat("invalid http source ", RedactUrl(spec.identifier), ": no host"));
  for (const auto& [key, value] : spec.attrs) KILN_RETURN_IF_ERROR(SetAttribute(key, value, &http));
  return std::make_shared<HttpInstance>(std::move(http), refs_, sessions_, user_agent_, limits_);
}

}  // namespace kiln::daemon
