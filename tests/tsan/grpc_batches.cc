// Debian's gRPC is not instrumented: ThreadSanitizer does not see that what was done before a batch
// is started comes before what is done when it is over, on another thread. In the tests of the tsan
// preset that talk gRPC the linker puts these functions around its C core's (--wrap).
#include <grpc/grpc.h>
#include <sanitizer/tsan_interface.h>

#include <atomic>
#include <cstdint>

extern "C" {
extern const char __executable_start;
extern const char etext;
}

namespace {

using Functor = grpc_completion_queue_functor;
using Run = void (*)(Functor*, int);

// The few functions of gRPC's that callbacks begin with. Relaxed throughout: orders nothing itself.
constexpr int kRuns = 4;
std::atomic<Run> runs[kRuns];

template <int kIndex>
void RunAfter(Functor* functor, int ok) {
  __tsan_acquire(functor);
  runs[kIndex].load(std::memory_order_relaxed)(functor, ok);
}
constexpr Run kAfter[kRuns] = {RunAfter<0>, RunAfter<1>, RunAfter<2>, RunAfter<3>};

// The tag of a batch whose end is called back begins with the function for it, any other with a
// pointer to data (its virtual table).
// Not looked at itself: gRPC makes tags.
__attribute__((no_sanitize("thread"))) bool IsFunctor(const void* tag) {
  const uintptr_t first = *static_cast<const uintptr_t*>(tag);
  return first >= reinterpret_cast<uintptr_t>(&__executable_start) &&
         first < reinterpret_cast<uintptr_t>(&etext);
}

__attribute__((no_sanitize("thread"))) void TellWhenRun(Functor* functor) {
  for (int i = 0; i < kRuns; ++i) {
    if (functor->functor_run == kAfter[i]) return;
    Run free = nullptr;
    if (runs[i].compare_exchange_strong(free, functor->functor_run, std::memory_order_relaxed) ||
        free == functor->functor_run) {
      functor->functor_run = kAfter[i];
      return;
    }
  }
  __builtin_trap();  // gRPC has more of them than it had
}

}  // namespace

extern "C" {

grpc_call_error __real_grpc_call_start_batch(grpc_call*, const grpc_op*, size_t, void*, void*);
grpc_call_error __wrap_grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count,
                                             void* tag, void* reserved) {
  if (tag != nullptr) {
    if (IsFunctor(tag)) TellWhenRun(static_cast<Functor*>(tag));
    __tsan_release(tag);
  }
  return __real_grpc_call_start_batch(call, ops, count, tag, reserved);
}

grpc_event __real_grpc_completion_queue_next(grpc_completion_queue*, gpr_timespec, void*);
grpc_event __wrap_grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline,
                                             void* reserved) {
  const grpc_event event = __real_grpc_completion_queue_next(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(event.tag);
  return event;
}

grpc_event __real_grpc_completion_queue_pluck(grpc_completion_queue*, void*, gpr_timespec, void*);
grpc_event __wrap_grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag,
                                              gpr_timespec deadline, void* reserved) {
  const grpc_event event = __real_grpc_completion_queue_pluck(queue, tag, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) __tsan_acquire(tag);
  return event;
}

}  // extern "C"
