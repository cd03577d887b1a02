#include "daemon/registry/authorizer.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "daemon/registry/token_proof.h"
#include "proto/digest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr size_t kKeyBytes = 32;
constexpr absl::Duration kIdle = absl::Minutes(10);
constexpr char kNobody[] = "nobody";

}  // namespace

// ---- who a session is ----

Authorizer::Authorizer(SessionFinder* sessions, HttpConnections* connections,
                       std::string user_agent)
    : sessions_(sessions),
      connections_(connections),
      user_agent_(std::move(user_agent)),
      salt_(RandomBytes(kKeyBytes)) {}

absl::StatusOr<Authorizer::Identity> Authorizer::Ask(Session& session, const std::string& host,
                                                     const CancelToken& cancel) {
  Identity identity;
  identity.session_id = session.id();
  identity.closed = session.closed();
  KILN_ASSIGN_OR_RETURN(const std::string authority,
                        GetTokenAuthority(session, host, salt_, cancel));
  if (authority.size() == kKeyBytes) {
    identity.by_client = true;
    const std::string payload = RandomBytes(kKeyBytes);
    const absl::StatusOr<std::string> proof =
        SignTokenAuthority(session, host, salt_, payload, cancel);
    if (cancel.Cancelled()) return cancel.status();
    identity.key = absl::StrCat("key ", absl::BytesToHexString(authority));
    // A client that cannot prove the key gets what it asks for, and shares it with nobody.
    if (!proof.ok() || !IsSignedBy(authority, payload, *proof))
      absl::StrAppend(&identity.key, " of ", identity.session_id);
    return identity;
  }
  KILN_ASSIGN_OR_RETURN(identity.credentials, GetCredentials(session, host, cancel));
  const Credentials& known = identity.credentials;
  identity.key =
      known.secret.empty()
          ? kNobody
          : absl::StrCat("secret ", Digest::Of(absl::StrCat(known.username.size(), ":",
                                                            known.username, known.secret))
                                        .hex());
  return identity;
}

absl::StatusOr<Authorizer::Identity> Authorizer::Identify(const std::string& session_id,
                                                          const std::string& host,
                                                          const CancelToken& cancel) {
  if (session_id.empty()) {
    Identity nobody;
    nobody.key = kNobody;
    return nobody;
  }
  const auto slot = std::make_pair(session_id, host);
  {
    MutexLock lock(&mu_);
    auto it = identities_.find(slot);
    if (it != identities_.end() && !it->second.closed.Cancelled()) return it->second;
  }
  KILN_ASSIGN_OR_RETURN(const SessionPtr session, sessions_->Get(session_id, cancel));
  KILN_ASSIGN_OR_RETURN(Identity identity, Ask(*session, host, cancel));
  MutexLock lock(&mu_);
  for (auto it = identities_.begin(); it != identities_.end();)
    it = it->second.closed.Cancelled() ? identities_.erase(it) : std::next(it);
  identities_[slot] = identity;
  return identity;
}

// ---- what is kept ----

std::optional<Challenge> Authorizer::FindWay(const std::string& key) {
  MutexLock lock(&mu_);
  auto it = ways_.find(key);
  if (it == ways_.end()) return std::nullopt;
  it->second.used_at = absl::Now();
  return it->second.challenge;
}

void Authorizer::StoreWay(const std::string& key, Challenge challenge) {
  const absl::Time now = absl::Now();
  MutexLock lock(&mu_);
  for (auto it = ways_.begin(); it != ways_.end();)
    it = now - it->second.used_at > kIdle ? ways_.erase(it) : std::next(it);
  ways_[key] = {std::move(challenge), now};
}

std::optional<std::string> Authorizer::FindToken(const std::string& key) {
  MutexLock lock(&mu_);
  auto it = tokens_.find(key);
  if (it == tokens_.end() || it->second.expires_at <= absl::Now()) return std::nullopt;
  return it->second.value;
}

void Authorizer::StoreToken(const std::string& key, const BearerToken& token) {
  const absl::Time now = absl::Now();
  MutexLock lock(&mu_);
  for (auto it = tokens_.begin(); it != tokens_.end();)
    it = it->second.expires_at <= now ? tokens_.erase(it) : std::next(it);
  tokens_[key] = token;
}

void Authorizer::DropToken(const std::string& key, const std::string& value) {
  MutexLock lock(&mu_);
  auto it = tokens_.find(key);
  if (it != tokens_.end() && it->second.value == value) tokens_.erase(it);
}

absl::StatusOr<BearerToken> Authorizer::Fetch(const Identity& identity, const TokenRequest& request,
                                              const Endpoint& endpoint, const CancelToken& cancel) {
  if (!absl::StartsWithIgnoreCase(request.realm, "https://") && !endpoint.http &&
      !endpoint.tls.insecure)
    return absl::FailedPreconditionError(absl::StrCat("registry ", endpoint.host,
                                                      " wants credentials sent to ", request.realm,
                                                      ", which is not https"));
  if (!identity.by_client)
    return FetchRealmToken(request, identity.credentials, endpoint.tls, user_agent_, connections_,
                           cancel);
  KILN_ASSIGN_OR_RETURN(const SessionPtr session, sessions_->Get(identity.session_id, cancel));
  KILN_ASSIGN_OR_RETURN(
      ClientToken told,
      FetchClientToken(*session, {endpoint.host, request.realm, request.service, request.scopes},
                       cancel));
  if (told.token.empty())
    return absl::UnauthenticatedError(absl::StrCat("the client has no token for ", endpoint.host));
  return BearerToken{std::move(told.token),
                     TokenExpiry(told.lifetime, told.issued_at, absl::Now())};
}

// ---- one call ----

Authorization::Authorization(Authorizer* authorizer, const Endpoint& endpoint,
                             std::vector<std::string> scopes,
                             const std::vector<std::string>& session_ids, const CancelToken& cancel,
                             const std::function<void(absl::string_view)>& log)
    : authorizer_(authorizer),
      endpoint_(endpoint),
      scopes_(NormalizeScopes(scopes)),
      cancel_(cancel),
      log_(log),
      way_key_(absl::StrCat(endpoint.url, " ", absl::StrJoin(scopes_, " "))),
      candidates_(session_ids) {
  candidates_.emplace_back();
}

bool Authorization::Next() {
  refused_.insert(identity_key_);
  return ++candidate_ < candidates_.size();
}

// Who is to be tried now. An identity that was refused is skipped with an error.
absl::StatusOr<Authorizer::Identity> Authorization::Current() {
  if (candidate_ >= candidates_.size())
    return absl::UnauthenticatedError(absl::StrCat("no credentials for ", endpoint_.host));
  identity_key_.clear();
  KILN_ASSIGN_OR_RETURN(Authorizer::Identity identity,
                        authorizer_->Identify(candidates_[candidate_], endpoint_.host, cancel_));
  identity_key_ = identity.key;
  if (refused_.count(identity.key) != 0)
    return absl::UnauthenticatedError(
        absl::StrCat("credentials for ", endpoint_.host, " were refused"));
  return identity;
}

absl::StatusOr<std::string> Authorization::Basic() {
  KILN_ASSIGN_OR_RETURN(Authorizer::Identity identity, Current());
  if (identity.by_client) {
    // It keeps its secret for tokens, but basic authentication has no other way.
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          authorizer_->sessions_->Get(identity.session_id, cancel_));
    KILN_ASSIGN_OR_RETURN(identity.credentials, GetCredentials(*session, endpoint_.host, cancel_));
  }
  const Credentials& known = identity.credentials;
  if (known.username.empty() || known.secret.empty())
    return absl::UnauthenticatedError(
        absl::StrCat("no basic auth credentials for ", endpoint_.host));
  if (endpoint_.http && !IsLoopbackHost(endpoint_.host) && log_ && !std::exchange(warned_, true))
    log_(absl::StrCat("warning: credentials for ", endpoint_.host, " are sent over plain http"));
  return absl::StrCat("Basic ",
                      absl::Base64Escape(absl::StrCat(known.username, ":", known.secret)));
}

absl::StatusOr<std::string> Authorization::Bearer(const Challenge& challenge) {
  KILN_ASSIGN_OR_RETURN(const Authorizer::Identity identity, Current());
  TokenRequest request;
  request.realm = challenge.Parameter("realm");
  request.service = challenge.Parameter("service");
  if (request.realm.empty())
    return absl::FailedPreconditionError(
        absl::StrCat("registry ", endpoint_.host, " does not say where tokens are had (no realm)"));
  std::vector<std::string> scopes = scopes_;
  for (absl::string_view scope : absl::StrSplit(challenge.Parameter("scope"), ' '))
    scopes.emplace_back(scope);
  request.scopes = NormalizeScopes(scopes);
  const std::string key = absl::StrJoin({endpoint_.host, request.realm, request.service,
                                         absl::StrJoin(request.scopes, " "), identity.key},
                                        "\n");
  KILN_ASSIGN_OR_RETURN(const NamedLocks::Hold hold, authorizer_->fetching_.Acquire(key, cancel_));
  if (std::optional<std::string> kept = authorizer_->FindToken(key); kept.has_value()) {
    token_key_ = key;
    token_ = *kept;
    return absl::StrCat("Bearer ", *kept);
  }
  const absl::StatusOr<BearerToken> token =
      authorizer_->Fetch(identity, request, endpoint_, cancel_);
  if (absl::IsUnauthenticated(token.status())) token_refusal_.Update(token.status());
  KILN_RETURN_IF_ERROR(token.status());
  authorizer_->StoreToken(key, *token);
  return absl::StrCat("Bearer ", token->value);
}

absl::StatusOr<std::string> Authorization::Header() {
  token_key_.clear();
  sent_ = false;
  const std::optional<Challenge> way = authorizer_->FindWay(way_key_);
  if (!way.has_value()) return std::string();
  absl::Status first;
  do {
    absl::StatusOr<std::string> header = way->scheme == "basic" ? Basic() : Bearer(*way);
    if (header.ok()) {
      sent_ = true;
      return header;
    }
    if (cancel_.Cancelled()) return cancel_.status();
    first.Update(header.status());
  } while (Next());
  return first;
}

bool Authorization::Refused(const HttpResponse& response) {
  if (response.status == 403) return sent_ && Next();
  const std::vector<Challenge> challenges = ParseChallenges(response.Header("www-authenticate"));
  const Challenge* best = nullptr;
  for (const Challenge& challenge : challenges) {
    if (challenge.scheme == "bearer" && (best == nullptr || best->scheme != "bearer"))
      best = &challenge;
    if (challenge.scheme == "basic" && best == nullptr) best = &challenge;
  }
  if (best == nullptr) return false;
  authorizer_->StoreWay(way_key_, *best);
  if (!sent_) return true;
  if (!token_key_.empty()) {  // a kept token may have been revoked
    authorizer_->DropToken(token_key_, token_);
    return true;
  }
  return Next();
}

}  // namespace kiln::daemon
