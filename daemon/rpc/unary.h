#pragma once

#include <grpcpp/support/server_callback.h>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "store/base/cancel.h"
#include "store/base/thread_pool.h"

namespace kiln::daemon {

// Answers a unary call with blocking code: runs `work` on `pool` and finishes the call with what it
// returns. The token fires when the client gives up; request and response live until then.
grpc::ServerUnaryReactor* RunUnary(ThreadPool* pool,
                                   absl::AnyInvocable<absl::Status(const CancelToken&)> work);

// Finishes a call at once.
grpc::ServerUnaryReactor* AnswerNow(grpc::CallbackServerContext* context,
                                    const absl::Status& status);

}  // namespace kiln::daemon
