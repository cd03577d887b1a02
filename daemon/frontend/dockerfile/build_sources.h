#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/call_once.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/llb/constraints.h"
#include "client/llb/source.h"
#include "client/llb/state.h"
#include "daemon/frontend/frontend_client.h"
#include "proto/digest.h"

namespace kiln::daemon::dockerfile {

// Where a build's Dockerfile and files come from (dockerfile.md 4.2, 5): directories of the client,
// a git or http URL, or graphs that the caller hands in. Thread-safe once Open has returned; the
// methods block on the client. `client` outlives it.
class BuildSources {
 public:
  // Paths of a client's directory that are needed, sorted; empty: everything.
  using NeededPaths = std::function<std::vector<std::string>()>;

  explicit BuildSources(FrontendClient* client) : client_(client) {}

  // Decides where everything is; downloads an http context. Call once, first.
  absl::Status Open();

  struct Dockerfile {
    std::shared_ptr<const client::llb::SourceText> text;
    Digest vertex;  // the step that loads it: warnings are shown there
  };
  // Call once, after Open.
  absl::StatusOr<Dockerfile> ReadDockerfile();

  // What .dockerignore leaves out of the main context; nothing unless it is a client's directory.
  absl::StatusOr<std::vector<std::string>> IgnorePatterns();

  // The main context. `needed` is asked when the graph is written.
  absl::StatusOr<client::llb::State> MainContext(NeededPaths needed);

  // Begins the transfer of the main context, whose needed paths are known by now, if it is a
  // client's directory: whatever else is made of the build, it will need it. Does not block.
  void BeginMainContext(const client::llb::State& context);

  // The one source op that the main context is; nullopt for a client's directory or an input.
  struct RemoteContext {
    client::llb::State state;
    bool is_git = false;
    std::string archive_ref;  // http: the ref of the download, if it is an archive
  };
  const std::optional<RemoteContext>& remote() const { return remote_; }

  // The session that offers the local directory `name`.
  const std::string& SessionOf(const std::string& name) const;

  // A graph of one local directory, for reading single files of it.
  absl::StatusOr<std::string> LoadFiles(const std::string& local_name, client::llb::LocalInfo info,
                                        bool evaluate);

  FrontendClient& client() const { return *client_; }

 private:
  absl::Status OpenHttp(const std::string& url);
  absl::Status OpenInputs();
  absl::StatusOr<client::llb::State> DockerfileSource() const;
  absl::StatusOr<std::string> RefOf(const client::llb::State& source, bool evaluate);
  absl::StatusOr<std::string> IgnoreFileRef();
  absl::Status LoadIgnoreFile();

  FrontendClient* const client_;
  std::string filename_ = "Dockerfile";
  std::string dockerfile_local_ = "dockerfile";
  bool dockerfile_is_local_ = false;  // forced, whatever the context is
  std::optional<RemoteContext> remote_;
  std::optional<client::llb::State> context_;     // nullopt: a directory of the client
  std::optional<client::llb::State> dockerfile_;  // nullopt: a directory of the client

  absl::once_flag ignore_once_;
  std::string ignore_ref_;   // of the context's file, when it is on its way already
  std::string ignore_name_;  // of the file beside the Dockerfile, once it was found
  std::string ignore_data_;
  absl::Status ignore_status_;
};

// A git or http(s) source for a URL, with the name of its step; nullopt for what is no git URL.
absl::StatusOr<std::optional<client::llb::State>> GitContext(const std::string& url,
                                                             std::optional<bool> keep_git_dir,
                                                             bool commit_mtime);

}  // namespace kiln::daemon::dockerfile
