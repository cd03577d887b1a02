#pragma once

#include <memory>
#include <string>
#include <utility>

#include "daemon/session/session.h"
#include "daemon/source/http_client.h"
#include "daemon/source/source.h"
#include "store/ref_store.h"

namespace kiln::daemon {

// "http://…" and "https://…": one downloaded file. The host "buildkit-session" stands for an upload
// of the client.
//
// A file is kept with its ETag: the next build asks whether it changed (HEAD, then GET with
// If-None-Match) and takes it from the store if not. A pinned digest is looked up first and
// otherwise checked against what arrives. One job sees one content for one URL. What arrives with
// another status than 2xx is an error, also when the key was known before.
class HttpSource : public Source {
 public:
  // Both outlive the source. `user_agent` e.g. "kiln/0.1".
  HttpSource(store::RefStore* refs, SessionFinder* sessions, std::string user_agent,
             HttpLimits limits = {})
      : refs_(refs),
        sessions_(sessions),
        user_agent_(std::move(user_agent)),
        limits_(std::move(limits)) {}

  bool Handles(absl::string_view scheme) const override {
    return scheme == "http" || scheme == "https";
  }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) override;

 private:
  store::RefStore* const refs_;
  SessionFinder* const sessions_;
  const std::string user_agent_;
  const HttpLimits limits_;
};

}  // namespace kiln::daemon
