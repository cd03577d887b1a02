#include "daemon/rpc/server.h"

#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "daemon/rpc/status.h"
#include "daemon/rpc/unary.h"
#include "proto/buildkit/secrets.grpc.pb.h"
#include "proto/grpc/health.grpc.pb.h"
#include "proto/status_details.h"
#include "store/base/unix_socket.h"
#include "tests/daemon/rpc/temp_dir.h"
#include "tests/daemon/rpc/test_certs.h"

namespace kiln::daemon {
namespace {

using moby::buildkit::secrets::v1::GetSecretRequest;
using moby::buildkit::secrets::v1::GetSecretResponse;
using moby::buildkit::secrets::v1::Secrets;

// Fails every call with what the test asks for.
class FailingSecrets : public Secrets::CallbackService {
 public:
  explicit FailingSecrets(ThreadPool* pool) : pool_(pool) {}
  absl::Status answer;

 private:
  grpc::ServerUnaryReactor* GetSecret(grpc::CallbackServerContext*, const GetSecretRequest* request,
                                      GetSecretResponse*) override {
    if (request->id() == "wait") {
      return RunUnary(pool_,
                      [](const CancelToken& cancel) { return cancel.SleepFor(absl::Minutes(5)); });
    }
    return RunUnary(pool_, [this](const CancelToken&) { return answer; });
  }
  ThreadPool* const pool_;
};

class RpcServerTest : public testing::Test {
 protected:
  // Keeps the library up between tests: its shutdown may wait 10 s for a poller of its own.
  static void SetUpTestSuite() { grpc_init(); }

  void Start(const std::string& address, std::optional<TlsOptions> tls = std::nullopt) {
    RpcServerOptions options;
    options.addresses = {*ParseListenAddress(address)};
    options.tls = std::move(tls);
    auto server = RpcServer::Start(options, {&secrets_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Port() { return server_->names()[0].substr(strlen("tcp://")); }

  static absl::Status Check(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
    grpc::health::v1::HealthCheckResponse response;
    const grpc::Status status =
        grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, &response);
    if (!status.ok()) return FromGrpc(status);
    return response.status() == grpc::health::v1::HealthCheckResponse::SERVING
               ? absl::OkStatus()
               : absl::InternalError("not serving");
  }
  std::shared_ptr<grpc::Channel> UnixChannel() {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 4 << 20);
    return grpc::CreateCustomChannel(server_->names()[0], grpc::InsecureChannelCredentials(), args);
  }

  TempDir dir_;
  ThreadPool pool_{"test", 4};
  FailingSecrets secrets_{&pool_};
  std::unique_ptr<RpcServer> server_;
};

TEST_F(RpcServerTest, HealthOverUnixSocket) {
  Start("unix://" + dir_.File("k.sock"));
  EXPECT_EQ(Check(UnixChannel()), absl::OkStatus());
}

TEST_F(RpcServerTest, UnknownMethodIsNamed) {
  Start("unix://" + dir_.File("k.sock"));
  grpc::ClientContext context;
  const grpc::Slice empty("");
  grpc::ByteBuffer request(&empty, 1), response;
  grpc::GenericStub stub(UnixChannel());
  absl::Notification done;
  grpc::Status status;
  stub.UnaryCall(&context, "/some.Service/Method", {}, &request, &response, [&](grpc::Status got) {
    status = std::move(got);
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_NE(status.error_message().find("/some.Service/Method"), std::string::npos);
}

TEST_F(RpcServerTest, LargeDetailsArriveWhole) {
  Start("unix://" + dir_.File("k.sock"));
  secrets_.answer = absl::UnknownError("outer: inner\n\xc3\xa9");
  AddDetail("example.com/x+json", std::string(300'000, 'x'), &secrets_.answer);
  AddVertexDetail("sha256:aa", &secrets_.answer);
  grpc::ClientContext context;
  GetSecretResponse response;
  const absl::Status got =
      FromGrpc(Secrets::NewStub(UnixChannel())->GetSecret(&context, {}, &response));
  EXPECT_EQ(got, secrets_.answer);
}

TEST_F(RpcServerTest, TooLargeDetailsLeaveTheRest) {
  absl::Status status = absl::UnknownError("x");
  AddDetail("example.com/huge", std::string(5 << 20, 'x'), &status);
  AddVertexDetail("sha256:aa", &status);
  const absl::Status got = FromGrpc(ToGrpc(status));
  ASSERT_EQ(Details(got).size(), 1u);
  EXPECT_EQ(Details(got)[0].type_url, kVertexDetail);
}

TEST_F(RpcServerTest, ClientThatGivesUpCancelsTheWork) {
  Start("unix://" + dir_.File("k.sock"));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Milliseconds(50)));
  GetSecretRequest request;
  request.set_id("wait");
  GetSecretResponse response;
  EXPECT_EQ(Secrets::NewStub(UnixChannel())->GetSecret(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  server_->Shutdown(absl::Now() + absl::Minutes(2));  // returns as soon as the work saw it
}

TEST_F(RpcServerTest, ClientsMayConnectWhileItStops) {
  const std::string path = dir_.File("k.sock");
  std::atomic<bool> over = false;
  std::vector<std::thread> clients;
  for (int i = 0; i < 2; ++i)
    clients.emplace_back([&] {
      while (!over) (void)ConnectUnix(path);
    });
  for (int i = 0; i < 50; ++i) {
    Start("unix://" + path);
    server_->Shutdown(absl::Now());
    server_.reset();
  }
  over = true;
  for (std::thread& client : clients) client.join();
}

class TlsServerTest : public RpcServerTest {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    certs_ = MakeTestCerts(dir_.path());
  }

  // Connects without ALPN, sends an HTTP/2 preface and empty SETTINGS; true when SETTINGS come
  // back. `client` may be null: without a certificate.
  bool SpeaksHttp2WithoutAlpn(const TestCerts* client) {
    const std::string port = Port();
    std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> ctx(SSL_CTX_new(TLS_client_method()),
                                                     SSL_CTX_free);
    if (client != nullptr) {
      SSL_CTX_use_certificate_chain_file(ctx.get(), client->client_cert.c_str());
      SSL_CTX_use_PrivateKey_file(ctx.get(), client->client_key.c_str(), SSL_FILETYPE_PEM);
    }
    std::unique_ptr<BIO, void (*)(BIO*)> bio(BIO_new_ssl_connect(ctx.get()), BIO_free_all);
    BIO_set_conn_hostname(bio.get(), port.c_str());
    if (BIO_do_connect(bio.get()) != 1) return false;
    const std::string hello("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    if (BIO_write(bio.get(), hello.data(), hello.size()) != static_cast<int>(hello.size()))
      return false;
    unsigned char frame[9];
    return BIO_read(bio.get(), frame, sizeof(frame)) == sizeof(frame) && frame[3] == 4;
  }

  TestCerts certs_;
};

TEST_F(TlsServerTest, WithAndWithoutAlpn) {
  Start("tcp://127.0.0.1:0", TlsOptions{certs_.server_cert, certs_.server_key, ""});
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = *ReadFileToString(certs_.ca);
  grpc::ChannelArguments args;
  args.SetSslTargetNameOverride("localhost");
  EXPECT_EQ(Check(grpc::CreateCustomChannel(Port(), grpc::SslCredentials(ssl), args)),
            absl::OkStatus());
  EXPECT_TRUE(SpeaksHttp2WithoutAlpn(nullptr));
}

TEST_F(TlsServerTest, D2_ClientCertificateIsRequiredOnceACaIsGiven) {
  Start("tcp://127.0.0.1:0", TlsOptions{certs_.server_cert, certs_.server_key, certs_.ca});
  EXPECT_FALSE(SpeaksHttp2WithoutAlpn(nullptr));
  const TempDir elsewhere;
  const TestCerts strangers = MakeTestCerts(elsewhere.path());
  EXPECT_FALSE(SpeaksHttp2WithoutAlpn(&strangers));
  EXPECT_TRUE(SpeaksHttp2WithoutAlpn(&certs_));
}

TEST_F(TlsServerTest, BrokenCertificateIsNamed) {
  RpcServerOptions options;
  options.tls = TlsOptions{dir_.File("absent.pem"), certs_.server_key, ""};
  const absl::Status status = RpcServer::Start(options, {&secrets_}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(status.message()).find("absent.pem"), std::string::npos) << status;
}

// Many bytes both ways through the terminator, over a client that reads slowly at first.
TEST_F(TlsServerTest, LargeMessages) {
  Start("tcp://127.0.0.1:0", TlsOptions{certs_.server_cert, certs_.server_key, ""});
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = *ReadFileToString(certs_.ca);
  grpc::ChannelArguments args;
  args.SetSslTargetNameOverride("localhost");
  const auto channel = grpc::CreateCustomChannel(Port(), grpc::SslCredentials(ssl), args);
  secrets_.answer = absl::UnknownError("done");
  for (int i = 0; i < 3; ++i) {
    GetSecretRequest request;
    request.set_id(std::string(8 << 20, 'i'));
    grpc::ClientContext context;
    GetSecretResponse response;
    EXPECT_EQ(Secrets::NewStub(channel)->GetSecret(&context, request, &response).error_message(),
              "done");
  }
}

}  // namespace
}  // namespace kiln::daemon
