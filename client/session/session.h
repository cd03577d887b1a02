#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/session/exports.h"
#include "client/session/secrets.h"
#include "client/session/ssh_agents.h"

namespace kiln::client {

// An OCI layout that the daemon may use.
struct ContentFolder {
  std::string folder;
  bool writable = false;
};

// What a client offers to the daemon while a build runs.
struct SessionOptions {
  std::string id;                                 // "": a new one
  std::map<std::string, std::string> local_dirs;  // name in the graph → directory
  std::vector<ExportTarget> exports;              // index = number of the exporter in the request
  std::map<std::string, ContentFolder> content;   // by the name that the daemon uses
  SecretStore secrets;
  SshAgents ssh;
  std::string docker_config_dir;  // "": $DOCKER_CONFIG or ~/.docker
};

// One session: the daemon calls back through a byte stream in which the client is an HTTP/2
// server. The stream is a Control.Session RPC; the server is a real gRPC server on one end of a
// socket pair, and two threads carry bytes between the pair's other end and the RPC.
//
// Thread-safe. The daemon may call until Close.
class Session {
 public:
  // Opens the stream. kInvalidArgument for a local directory that is not one.
  static absl::StatusOr<std::unique_ptr<Session>> Open(const Connection& connection,
                                                       SessionOptions options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const std::string& id() const;

  // Ends the stream as the daemon expects it (half-close, then its end) and stops the services.
  // Gives up waiting after a few seconds. Idempotent.
  void Close();
  // Ends it at once.
  void Abort();

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

// Names this client and its directories to the daemon, so that a second build from the same
// directories sends only what changed: equal on every run, different on other machines.
std::string SharedKey(const std::map<std::string, std::string>& local_dirs);

}  // namespace kiln::client
