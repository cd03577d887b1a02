#include "daemon/rpc/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr absl::Duration kHandshakeTimeout = absl::Seconds(10);
constexpr int kRoundsPerTurn = 16;  // then other connections get their turn

struct CtxDeleter {
  void operator()(SSL_CTX* ctx) const { SSL_CTX_free(ctx); }
};
struct SslDeleter {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

absl::Status Unusable(const std::string& file) {
  char reason[256];
  ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat("TLS file ", file, ": ", reason));
}

// Picks h2 from the client's list; never called for a client that sends no list.
int SelectAlpn(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
               unsigned int in_length, void*) {
  static constexpr unsigned char kH2[] = {2, 'h', '2'};
  unsigned char* selected = nullptr;
  if (SSL_select_next_proto(&selected, out_length, kH2, sizeof(kH2), in, in_length) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

// Bytes on their way in one direction.
struct Buffer {
  std::array<char, 32 << 10> bytes;
  size_t begin = 0, end = 0;
  bool empty() const { return begin == end; }
};

}  // namespace

class TlsTerminator::Impl : public std::enable_shared_from_this<Impl> {
 public:
  explicit Impl(SSL_CTX* ctx) : ctx_(ctx), loop_("kiln-tls") {}

  // Closes every connection on the loop thread, where they live.
  ~Impl();

  SSL_CTX* ctx() const { return ctx_.get(); }
  FdLoop& loop() { return loop_; }
  void Start(std::shared_ptr<Connection> connection);
  void Forget(Connection* connection) { connections_.erase(connection); }

 private:
  const std::unique_ptr<SSL_CTX, CtxDeleter> ctx_;
  // Loop thread only.
  absl::flat_hash_map<Connection*, std::shared_ptr<Connection>> connections_;
  FdLoop loop_;
};

// One client. Loop thread only, after Start.
class TlsTerminator::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Impl* impl, Fd net, absl::AnyInvocable<void(Fd plain)> ready)
      : impl_(impl), net_(std::move(net)), ssl_(SSL_new(impl->ctx())), ready_(std::move(ready)) {}

  ~Connection() { Close(); }

  void Begin() {
    if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), net_.get()) != 1) return Drop();
    SSL_set_accept_state(ssl_.get());
    net_watch_ = Watch(net_.get());
    if (net_watch_ == 0) return Drop();
    impl_->loop().PostAfter(kHandshakeTimeout, [weak = weak_from_this()] {
      if (auto self = weak.lock(); self && self->ready_) self->Drop();
    });
    Step();
  }

  void Close() {
    if (net_watch_ != 0) impl_->loop().Remove(std::exchange(net_watch_, 0));
    if (local_watch_ != 0) impl_->loop().Remove(std::exchange(local_watch_, 0));
    ready_ = nullptr;
    local_.Reset();
    net_.Reset();
    ERR_clear_error();
  }

 private:
  uint64_t Watch(int fd) {
    return impl_->loop().Add(fd, [weak = weak_from_this()](uint32_t) {
      if (auto self = weak.lock()) self->Step();
    });
  }

  void Step() {
    if (!net_.valid()) return;
    net_want_ = local_want_ = 0;
    if (ready_ && !Handshake()) return;
    int round = 0;
    while (net_.valid() && Pump()) {
      if (++round < kRoundsPerTurn) continue;
      impl_->loop().Post([self = shared_from_this()] { self->Step(); });
      return;
    }
    if (!net_.valid()) return;
    if (net_want_ != 0) impl_->loop().Arm(net_watch_, net_want_);
    if (local_want_ != 0) impl_->loop().Arm(local_watch_, local_want_);
  }

  // True when it is done. Otherwise it is armed or dropped.
  bool Handshake() {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1) {
      if (!Wants(result)) {
        Drop();
      } else {
        impl_->loop().Arm(net_watch_, net_want_);
      }
      return false;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
      Drop();
      return false;
    }
    local_ = Fd(pair[0]);
    Fd plain(pair[1]);
    local_watch_ = Watch(local_.get());
    if (local_watch_ == 0) {
      Drop();
      return false;
    }
    std::exchange(ready_, nullptr)(std::move(plain));
    return true;
  }

  // True when the call will go on once the socket is ready for what it asked.
  bool Wants(int result) {
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        net_want_ |= EPOLLIN;
        return true;
      case SSL_ERROR_WANT_WRITE:
        net_want_ |= EPOLLOUT;
        return true;
      default:
        return false;
    }
  }

  // One attempt at each of the four steps; true when bytes moved.
  bool Pump() {
    net_want_ = local_want_ = 0;
    bool moved = ReadNet();
    moved |= WriteLocal();
    moved |= ReadLocal();
    moved |= WriteNet();
    if (net_ended_ && in_.empty()) Drop();
    if (net_.valid() && local_ended_ && out_.empty()) {
      SSL_shutdown(ssl_.get());  // one-sided: the peer need not answer
      Drop();
    }
    return moved;
  }

  bool ReadNet() {
    if (!in_.empty() || net_ended_) return false;
    ERR_clear_error();
    in_.begin = in_.end = 0;
    const int result = SSL_read_ex(ssl_.get(), in_.bytes.data(), in_.bytes.size(), &in_.end);
    if (result == 1) return true;
    if (!Wants(result)) net_ended_ = true;
    return false;
  }

  bool WriteLocal() {
    if (in_.empty()) return false;
    const ssize_t sent = send(local_.get(), in_.bytes.data() + in_.begin, in_.end - in_.begin,
                              MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      in_.begin += sent;
      return true;
    }
    if (errno == EAGAIN) {
      local_want_ |= EPOLLOUT;
    } else {
      net_ended_ = true;  // nobody reads any more
      in_.begin = in_.end = 0;
    }
    return false;
  }

  bool ReadLocal() {
    if (!out_.empty() || local_ended_) return false;
    const ssize_t got = recv(local_.get(), out_.bytes.data(), out_.bytes.size(), MSG_DONTWAIT);
    if (got > 0) {
      out_.begin = 0;
      out_.end = got;
      return true;
    }
    if (got < 0 && errno == EAGAIN) {
      local_want_ |= EPOLLIN;
    } else {
      local_ended_ = true;
    }
    return false;
  }

  bool WriteNet() {
    if (out_.empty()) return false;
    ERR_clear_error();
    size_t written = 0;
    const int result =
        SSL_write_ex(ssl_.get(), out_.bytes.data() + out_.begin, out_.end - out_.begin, &written);
    if (result == 1) {
      out_.begin += written;
      return true;
    }
    if (!Wants(result)) {
      local_ended_ = net_ended_ = true;
      out_.begin = out_.end = 0;
    }
    return false;
  }

  // The last act: *this lives only as long as the caller's reference.
  void Drop() {
    auto self = shared_from_this();
    Close();
    impl_->Forget(this);
  }

  Impl* const impl_;
  Fd net_, local_;
  const std::unique_ptr<SSL, SslDeleter> ssl_;
  absl::AnyInvocable<void(Fd plain)> ready_;  // null once the handshake is done
  uint64_t net_watch_ = 0, local_watch_ = 0;
  uint32_t net_want_ = 0, local_want_ = 0;
  bool net_ended_ = false, local_ended_ = false;
  Buffer in_, out_;  // from the client, to the client
};

TlsTerminator::Impl::~Impl() {
  absl::Notification closed;
  loop_.Post([this, &closed] {
    for (auto& [key, connection] : connections_) connection->Close();
    connections_.clear();
    closed.Notify();
  });
  closed.WaitForNotification();
}

void TlsTerminator::Impl::Start(std::shared_ptr<Connection> connection) {
  loop_.Post([this, connection = std::move(connection)] {
    connections_.emplace(connection.get(), connection);
    connection->Begin();
  });
}

absl::StatusOr<std::unique_ptr<TlsTerminator>> TlsTerminator::Create(const TlsOptions& options) {
  std::unique_ptr<SSL_CTX, CtxDeleter> ctx(SSL_CTX_new(TLS_server_method()));
  if (ctx == nullptr) return absl::InternalError("SSL_CTX_new failed");
  SSL_CTX_set_min_proto_version(ctx.get(), TLS1_2_VERSION);
  SSL_CTX_set_mode(ctx.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(ctx.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(ctx.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_alpn_select_cb(ctx.get(), SelectAlpn, nullptr);
  if (SSL_CTX_use_certificate_chain_file(ctx.get(), options.cert_file.c_str()) != 1)
    return Unusable(options.cert_file);
  if (SSL_CTX_use_PrivateKey_file(ctx.get(), options.key_file.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(ctx.get()) != 1)
    return Unusable(options.key_file);
  if (!options.ca_file.empty()) {
    if (SSL_CTX_load_verify_locations(ctx.get(), options.ca_file.c_str(), nullptr) != 1)
      return Unusable(options.ca_file);
    STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(options.ca_file.c_str());
    if (names == nullptr) return Unusable(options.ca_file);
    SSL_CTX_set_client_CA_list(ctx.get(), names);  // takes it
    SSL_CTX_set_verify(ctx.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return std::unique_ptr<TlsTerminator>(new TlsTerminator(std::make_shared<Impl>(ctx.release())));
}

TlsTerminator::~TlsTerminator() = default;

void TlsTerminator::Accept(Fd connection, absl::AnyInvocable<void(Fd plain)> ready) {
  impl_->Start(std::make_shared<Connection>(impl_.get(), std::move(connection), std::move(ready)));
}

}  // namespace kiln::daemon
