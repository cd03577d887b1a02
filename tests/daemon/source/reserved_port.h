#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>

#include "store/base/fd.h"

namespace kiln::daemon {

// A port of 127.0.0.1 that the kernel gives to nobody else while this lives: a server that is to
// listen there, with SO_REUSEADDR as servers do, may come and go.
class ReservedPort {
 public:
  ReservedPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    socklen_t size = sizeof address;
    // Bound and never listening: two such sockets may share a port, and one of them may listen.
    if (::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        ::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
      std::abort();
    number_ = ntohs(address.sin_port);
  }

  uint16_t number() const { return number_; }

 private:
  const Fd fd_;
  uint16_t number_ = 0;
};

}  // namespace kiln::daemon
