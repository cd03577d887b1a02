#pragma once

#include <string>

namespace kiln::daemon {

// Files of a certificate authority and what it signed, for "localhost".
struct TestCerts {
  std::string ca, server_cert, server_key, client_cert, client_key;
};

TestCerts MakeTestCerts(const std::string& dir);

}  // namespace kiln::daemon
