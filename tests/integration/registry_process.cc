#include "tests/integration/registry_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <csignal>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "store/base/deadline.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::integration {

namespace {

absl::Status Command(std::vector<std::string> args) {
  ProcessOptions options;
  options.args = std::move(args);
  return RunCommandForOutput(options, CancelToken()).status();
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

RegistryProcess::RegistryProcess(const Options& options)
    : options_(options), host_(absl::StrCat("127.0.0.1:", port_.number())) {
  std::string config = absl::StrCat(
      "version: 0.1\nlog:\n  level: error\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n",
      "    rootdirectory: ", dir_.path(), "/data\nhttp:\n  addr: ", host_, "\n");
  if (options.tls)
    absl::StrAppend(&config, "  tls:\n    certificate: ", dir_.path(),
                    "/server.crt\n    key: ", dir_.path(), "/server.key\n");
  if (options.client_certificates)
    absl::StrAppend(&config, "    clientcas:\n      - ", ca_file(), "\n");
  if (!options.user.empty())
    absl::StrAppend(&config, "auth:\n  htpasswd:\n    realm: test\n    path: ", dir_.path(),
                    "/htpasswd\n");
  dir_.Write("config.yml", config);
}

absl::Status RegistryProcess::WriteCertificates() const {
  const std::string& dir = dir_.path();
  KILN_RETURN_IF_ERROR(
      Command({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "2", "-subj", "/CN=authority of " + host_, "-keyout",
               dir + "/ca.key", "-out", ca_file()}));
  KILN_RETURN_IF_ERROR(Command({"openssl", "req", "-newkey", "ec", "-pkeyopt",
                                "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=registry",
                                "-keyout", dir + "/server.key", "-out", dir + "/server.csr"}));
  dir_.Write("server.ext", "subjectAltName=IP:127.0.0.1\n");
  return Command({"openssl", "x509", "-req", "-in", dir + "/server.csr", "-CA", ca_file(), "-CAkey",
                  dir + "/ca.key", "-CAcreateserial", "-days", "2", "-extfile", dir + "/server.ext",
                  "-out", dir + "/server.crt"});
}

bool RegistryProcess::Accepts() const {
  const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port_.number());
  return ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

absl::Status RegistryProcess::Start() {
  if (options_.tls && Slurp(ca_file()).empty()) KILN_RETURN_IF_ERROR(WriteCertificates());
  if (!options_.user.empty())
    KILN_RETURN_IF_ERROR(Command({"htpasswd", "-B", "-b", "-c", "-C", "4",
                                  dir_.path() + "/htpasswd", options_.user, options_.password}));
  KILN_ASSIGN_OR_RETURN(const Fd log,
                        OpenFile(dir_.path() + "/log", O_WRONLY | O_CREAT | O_APPEND, 0600));
  ProcessOptions process;
  process.args = {"docker-registry", "serve", dir_.path() + "/config.yml"};
  process.stdout_fd = log.get();
  process.stderr_fd = log.get();
  KILN_ASSIGN_OR_RETURN(process_, Process::Start(process));
  const Deadline end(absl::Minutes(1));
  while (!Accepts()) {
    if (end.Passed())
      return absl::UnavailableError("the registry does not answer: " + Slurp(dir_.path() + "/log"));
    absl::SleepFor(absl::Milliseconds(10));
  }
  return absl::OkStatus();
}

void RegistryProcess::Stop() {
  if (!process_.running()) return;
  process_.Signal(SIGKILL).IgnoreError();
  process_.Wait(CancelToken()).IgnoreError();
}

std::vector<std::string> RegistryProcess::Requests(const std::vector<std::string>& texts,
                                                   size_t expected) const {
  const Deadline end(absl::Minutes(1));
  for (;; absl::SleepFor(absl::Milliseconds(10))) {
    std::vector<std::string> found;
    for (absl::string_view line : absl::StrSplit(Slurp(dir_.path() + "/log"), '\n')) {
      bool all = true;
      for (const std::string& text : texts) all = all && absl::StrContains(line, text);
      // 127.0.0.1 - - [date] "METHOD path HTTP/1.1" status …
      const size_t quote = line.find('"');
      if (!all || quote == absl::string_view::npos) continue;
      found.emplace_back(line.substr(quote + 1));
    }
    if (found.size() >= expected || end.Passed()) return found;
  }
}

absl::Status RegistryProcess::DeleteBlob(const std::string& repository,
                                         absl::string_view digest) const {
  return Command({"curl", "-sf", "-X", "DELETE",
                  absl::StrCat("http://", host_, "/v2/", repository, "/blobs/", digest)});
}

}  // namespace kiln::integration
