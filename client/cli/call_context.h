#pragma once

#include <grpcpp/client_context.h>

#include "client/cli/command.h"
#include "store/base/cancel.h"

namespace kiln::client {

// A context that ends when the user cancels.
class CallContext {
 public:
  explicit CallContext(const Globals& globals)
      : registration_(globals.connect.cancel.OnCancel([this] { context_.TryCancel(); })) {}
  grpc::ClientContext* get() { return &context_; }

 private:
  grpc::ClientContext context_;
  CancelRegistration registration_;  // last: gone before the context
};

}  // namespace kiln::client
