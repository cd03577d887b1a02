#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/session/session.h"

namespace grpc {
class Service;
}

namespace kiln::client {

// A service on the session's server, with the methods to announce.
struct SessionService {
  std::unique_ptr<grpc::Service> service;
  std::vector<std::string> methods;  // "/pkg.Service/Method"
};

// Those that `options` give something to serve; always at least Auth. `options` must outlive them.
std::vector<SessionService> MakeSessionServices(const SessionOptions& options);

}  // namespace kiln::client
