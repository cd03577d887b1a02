#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "store/base/process.h"
#include "tests/daemon/source/reserved_port.h"
#include "tests/integration/builds.h"

namespace kiln::integration {

// A distribution registry (docker-registry) on a loopback port, with nothing in it. Killed at the
// end.
class RegistryProcess {
 public:
  struct Options {
    bool tls = false;                  // with a certificate of an authority of its own
    bool client_certificates = false;  // asks for one of the same authority
    std::string user = "", password = "";
  };
  RegistryProcess() : RegistryProcess(Options{}) {}
  explicit RegistryProcess(const Options& options);

  // Starts it and waits until it accepts.
  absl::Status Start();
  // Kills it; what it has stays for the next Start.
  void Stop();

  const std::string& host() const { return host_; }  // "127.0.0.1:PORT"
  std::string ca_file() const { return dir_.path() + "/ca.crt"; }
  // The server's own files; they will do for a client of the authority, too.
  std::string cert_file() const { return dir_.path() + "/server.crt"; }
  std::string key_file() const { return dir_.path() + "/server.key"; }

  // The requests so far, 'METHOD path HTTP/1.1" status …', that hold all of these texts. As the log
  // may be behind what a client has seen, those that must be there are waited for, for a minute.
  std::vector<std::string> Requests(const std::vector<std::string>& texts,
                                    size_t expected = 0) const;
  // Makes a repository forget a blob. Plain http only.
  absl::Status DeleteBlob(const std::string& repository, absl::string_view digest) const;

 private:
  absl::Status WriteCertificates() const;
  bool Accepts() const;

  const Options options_;
  TempDir dir_;
  const daemon::ReservedPort port_;
  std::string host_;
  Process process_;
};

}  // namespace kiln::integration
