#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/registry/bearer_token.h"
#include "daemon/registry/challenge.h"
#include "daemon/registry/endpoint.h"
#include "daemon/session/auth.h"
#include "daemon/session/session.h"
#include "daemon/source/http_client.h"
#include "store/base/cancel.h"
#include "store/base/mutex.h"
#include "store/base/named_locks.h"

namespace kiln::daemon {

// Remembers who the sessions are to registries, and their tokens (images-and-cache.md 1.8).
// Thread-safe; blocking.
//
// Invariant: a token serves only those who proved to be whom it was given to: the session that
// fetched it; sessions that show the same user and secret; sessions that sign with the key under
// which the token is kept; everybody, if it was given to nobody in particular.
class Authorizer {
 public:
  // `sessions` and `connections` outlive it.
  Authorizer(SessionFinder* sessions, HttpConnections* connections, std::string user_agent);

 private:
  friend class Authorization;

  // A client as a registry sees it.
  struct Identity {
    std::string session_id;  // "": nobody
    std::string key;         // equal keys share tokens
    bool by_client = false;  // the client fetches tokens
    Credentials credentials = {};
    CancelToken closed = {};
  };
  struct Way {
    Challenge challenge;
    absl::Time used_at;
  };

  absl::StatusOr<Identity> Identify(const std::string& session_id, const std::string& host,
                                    const CancelToken& cancel);
  absl::StatusOr<Identity> Ask(Session& session, const std::string& host,
                               const CancelToken& cancel);
  absl::StatusOr<BearerToken> Fetch(const Identity& identity, const TokenRequest& request,
                                    const Endpoint& endpoint, const CancelToken& cancel);

  std::optional<Challenge> FindWay(const std::string& key);
  void StoreWay(const std::string& key, Challenge challenge);
  std::optional<std::string> FindToken(const std::string& key);
  void StoreToken(const std::string& key, const BearerToken& token);
  void DropToken(const std::string& key, const std::string& value);

  SessionFinder* const sessions_;
  HttpConnections* const connections_;
  const std::string user_agent_;
  const std::string salt_;
  NamedLocks fetching_;  // one fetch for each token

  Mutex mu_;
  std::map<std::string, Way> ways_ ABSL_GUARDED_BY(mu_);
  std::map<std::pair<std::string, std::string>, Identity> identities_
      ABSL_GUARDED_BY(mu_);  // by session and host
  std::map<std::string, BearerToken> tokens_ ABSL_GUARDED_BY(mu_);
};

// The credentials of one call at one server: tries who its sessions are, in turn, and nobody last.
// Not thread-safe.
class Authorization {
 public:
  // All outlive it. `log` may be null.
  Authorization(Authorizer* authorizer, const Endpoint& endpoint, std::vector<std::string> scopes,
                const std::vector<std::string>& session_ids, const CancelToken& cancel,
                const std::function<void(absl::string_view)>& log);

  // Value of the Authorization header for the next request; "" for none. An error when no token can
  // be had by anybody: what the first one met.
  absl::StatusOr<std::string> Header();

  // What the token server said to the first who asked it in vain; ok: none was refused there.
  const absl::Status& token_refusal() const { return token_refusal_; }

  // To be told a 401 or 403. True: the next Header() may do better.
  bool Refused(const HttpResponse& response);

 private:
  absl::StatusOr<std::string> Basic();
  absl::StatusOr<std::string> Bearer(const Challenge& challenge);
  absl::StatusOr<Authorizer::Identity> Current();
  bool Next();

  Authorizer* const authorizer_;
  const Endpoint& endpoint_;
  const std::vector<std::string> scopes_;
  const CancelToken& cancel_;
  const std::function<void(absl::string_view)>& log_;
  const std::string way_key_;
  std::vector<std::string> candidates_;  // session ids; "" is nobody
  size_t candidate_ = 0;
  std::set<std::string> refused_;  // keys of identities that did not do
  std::string identity_key_;       // of the last header
  std::string token_key_, token_;  // of the last header, when its token was a kept one
  absl::Status token_refusal_;
  bool sent_ = false;  // the last header was not empty
  bool warned_ = false;
};

}  // namespace kiln::daemon
