#include "tests/integration/registry_process.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "store/base/check.h"
#include "store/base/fd.h"

namespace kiln::integration {

RegistryProcess::RegistryProcess() {
  const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  KILN_CHECK(::bind(probe.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
  KILN_CHECK(::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  host_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  dir_.Write("config.yml", absl::StrCat("version: 0.1\nlog:\n  accesslog:\n    disabled: true\n",
                                        "storage:\n  filesystem:\n    rootdirectory: ", dir_.path(),
                                        "/data\nhttp:\n  addr: ", host_, "\n"));
}

absl::Status RegistryProcess::Start() {
  ProcessOptions options;
  options.args = {"docker-registry", "serve", dir_.path() + "/config.yml"};
  auto process = Process::Start(options);
  if (!process.ok()) return process.status();
  process_ = *std::move(process);
  for (int i = 0; i < 200; ++i) {
    const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port =
        htons(static_cast<uint16_t>(std::atoi(host_.substr(host_.find(':') + 1).c_str())));
    if (::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0)
      return absl::OkStatus();
    absl::SleepFor(absl::Milliseconds(50));
  }
  return absl::UnavailableError("the registry does not answer");
}

}  // namespace kiln::integration
