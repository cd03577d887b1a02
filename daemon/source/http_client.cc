#include "daemon/source/http_client.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/source/client_certificates.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kFailurePayload[] = "kiln/http-failure";
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr size_t kMaxIdlePerHost = 8;
constexpr int64_t kMaxUnaskedBody = 64 << 10;

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Multi = std::unique_ptr<CURLM, FreeMulti>;

// "https://host:port" of a URL: what connections are kept under.
std::string OriginOf(absl::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == absl::string_view::npos) return std::string(url);
  return std::string(url.substr(0, url.find_first_of("/?#", scheme + 3)));
}

// The host of "scheme://user@host:port".
absl::string_view HostOf(absl::string_view origin) {
  const size_t scheme = origin.find("://");
  if (scheme != absl::string_view::npos) origin.remove_prefix(scheme + 3);
  const size_t at = origin.rfind('@');
  if (at != absl::string_view::npos) origin.remove_prefix(at + 1);
  return origin;
}

bool IsLocalAddress(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const uint32_t ip = ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr);
    return ip >> 24 == 127 || ip >> 16 == 0xa9fe || ip >> 24 == 0;
  }
  if (address->sa_family != AF_INET6) return true;
  const in6_addr& ip = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&ip)) {
    const uint8_t* const v4 = ip.s6_addr + 12;
    return v4[0] == 127 || v4[0] == 0 || (v4[0] == 169 && v4[1] == 254);
  }
  return IN6_IS_ADDR_LOOPBACK(&ip) || IN6_IS_ADDR_LINKLOCAL(&ip) || IN6_IS_ADDR_UNSPECIFIED(&ip);
}

HttpFailure Classify(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return HttpFailure::kConnect;
    case CURLE_SSL_CONNECT_ERROR:
      return HttpFailure::kTls;
    case CURLE_PEER_FAILED_VERIFICATION:
      return HttpFailure::kCertificate;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return HttpFailure::kTransfer;
    default:
      return HttpFailure::kOther;
  }
}

absl::StatusCode CodeOf(CURLcode code) {
  switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return absl::StatusCode::kInvalidArgument;
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
      return absl::StatusCode::kFailedPrecondition;
    case CURLE_BAD_CONTENT_ENCODING:
      return absl::StatusCode::kDataLoss;
    case CURLE_OPERATION_TIMEDOUT:
      return absl::StatusCode::kDeadlineExceeded;
    default:
      return absl::StatusCode::kUnavailable;
  }
}

}  // namespace

struct HttpConnections::Pool {
  // The warm connections are a multi handle's; it serves one request at a time.
  Multi Take(const std::string& origin) {
    MutexLock lock(&mu);
    auto it = idle.find(origin);
    if (it == idle.end() || it->second.empty()) return nullptr;
    Multi multi = std::move(it->second.back());
    it->second.pop_back();
    return multi;
  }
  void Give(const std::string& origin, Multi multi) {
    Multi surplus;  // closing connections may block: outside of the lock
    MutexLock lock(&mu);
    std::vector<Multi>& list = idle[origin];
    if (list.size() < kMaxIdlePerHost) {
      list.push_back(std::move(multi));
    } else {
      surplus = std::move(multi);
    }
  }

  Mutex mu;
  std::map<std::string, std::vector<Multi>> idle ABSL_GUARDED_BY(mu);
};

HttpConnections::HttpConnections() : pool_(std::make_unique<Pool>()) {}
HttpConnections::~HttpConnections() = default;

// One exchange. The multi interface is used for its poll, which a cancel can wake.
class HttpExchange {
 public:
  HttpExchange(const HttpRequest& request, const HttpLimits& limits,
               const std::function<absl::Status(const HttpResponse&)>& begin,
               const std::function<absl::Status(absl::string_view)>& body)
      : request_(request), limits_(limits), begin_(begin), body_(body) {}

  absl::StatusOr<HttpResponse> Run(const CancelToken& cancel, HttpConnections* connections) {
    static const CURLcode kGlobal = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (kGlobal != CURLE_OK) return absl::InternalError("libcurl does not initialise");
    const std::string origin = OriginOf(request_.url);
    easy_.reset(curl_easy_init());
    if (connections != nullptr) multi_ = connections->pool_->Take(origin);
    if (multi_ == nullptr) multi_.reset(curl_multi_init());
    if (easy_ == nullptr || multi_ == nullptr) return absl::ResourceExhaustedError("libcurl");
    KILN_RETURN_IF_ERROR(SetUp(IsLoopbackHost(HostOf(origin))));
    if (curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK)
      return absl::InternalError("libcurl refuses the transfer");
    absl::StatusOr<CURLcode> code;
    {
      CancelRegistration wake = cancel.OnCancel([this] { curl_multi_wakeup(multi_.get()); });
      code = Drive(cancel);
    }
    curl_multi_remove_handle(multi_.get(), easy_.get());
    if (connections != nullptr && code.ok()) connections->pool_->Give(origin, std::move(multi_));
    if (!code.ok()) return code.status();
    if (!failed_.ok()) return failed_;
    KILN_RETURN_IF_ERROR(ToStatus(*code));
    KILN_RETURN_IF_ERROR(Begin());  // a response without a body
    return std::move(response_);
  }

 private:
  absl::Status SetHeaders() {
    curl_slist* list = nullptr;
    const auto add = [&list](const std::string& line) {
      curl_slist* longer = curl_slist_append(list, line.c_str());
      if (longer != nullptr) list = longer;
      return longer != nullptr;
    };
    bool complete = true;
    for (const auto& [name, value] : request_.headers)
      // "Name;" is how libcurl writes an empty value.
      complete = add(value.empty() ? absl::StrCat(name, ";") : absl::StrCat(name, ": ", value)) &&
                 complete;
    // A small body is sent sooner than it is asked for.
    if (request_.body.has_value() && request_.body->restart != nullptr &&
        request_.body->size_bytes <= kMaxUnaskedBody)
      complete = add("Expect:") && complete;
    headers_.reset(list);
    if (!complete) return absl::ResourceExhaustedError("request headers");
    curl_easy_setopt(easy_.get(), CURLOPT_HTTPHEADER, headers_.get());
    return absl::OkStatus();
  }

  void SetMethod() {
    CURL* const e = easy_.get();
    if (request_.method == "HEAD") {
      curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
      return;
    }
    if (request_.body.has_value()) {
      curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
      curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE,
                       static_cast<curl_off_t>(request_.body->size_bytes));
      curl_easy_setopt(e, CURLOPT_READFUNCTION, &HttpExchange::OnRead);
      curl_easy_setopt(e, CURLOPT_READDATA, this);
      curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, &HttpExchange::OnSeek);
      curl_easy_setopt(e, CURLOPT_SEEKDATA, this);
      curl_easy_setopt(e, CURLOPT_EXPECT_100_TIMEOUT_MS, 5000L);
    }
    if (request_.method != "GET" || request_.body.has_value())
      curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  }

  void SetTls() {
    CURL* const e = easy_.get();
    const HttpTls& tls = request_.tls;
    if (tls.insecure) {
      curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 0L);
      curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    if (!tls.ca_files.empty() || !tls.key_pairs.empty()) {
      curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, &HttpExchange::OnSslContext);
      curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, this);
    }
  }

  absl::Status SetUp(bool loopback) {
    CURL* const e = easy_.get();
    KILN_RETURN_IF_ERROR(SetHeaders());
    SetMethod();
    SetTls();
    curl_easy_setopt(e, CURLOPT_URL, request_.url.c_str());
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR,
                     absl::StartsWithIgnoreCase(request_.url, "https:") ? "https" : "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(e, CURLOPT_UNRESTRICTED_AUTH, 0L);
    curl_easy_setopt(e, CURLOPT_MAXREDIRS, static_cast<long>(limits_.max_redirects));
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(absl::ToInt64Milliseconds(limits_.connect_timeout)));
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME,
                     static_cast<long>(absl::ToInt64Seconds(limits_.stall_timeout)));
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 256L << 10);
    if (loopback || request_.direct) curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (!request_.accept_encoding.empty())
      curl_easy_setopt(e, CURLOPT_ACCEPT_ENCODING, request_.accept_encoding.c_str());
    if (request_.only_public_addresses)
      curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, &HttpExchange::OnOpenSocket);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, &HttpExchange::OnHeader);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, &HttpExchange::OnBody);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, error_);
    return absl::OkStatus();
  }

  absl::StatusOr<CURLcode> Drive(const CancelToken& cancel) {
    for (int running = 1;;) {
      if (cancel.Cancelled()) return cancel.status();
      if (curl_multi_perform(multi_.get(), &running) != CURLM_OK)
        return absl::InternalError("libcurl: perform");
      if (running == 0) break;
      if (curl_multi_poll(multi_.get(), nullptr, 0, 1000, nullptr) != CURLM_OK)
        return absl::InternalError("libcurl: poll");
    }
    int left = 0;
    const CURLMsg* message = curl_multi_info_read(multi_.get(), &left);
    if (message == nullptr || message->msg != CURLMSG_DONE)
      return absl::InternalError("libcurl ended without a result");
    return message->data.result;
  }

  HttpFailure TimedOutDuring() {
    curl_off_t connected = 0, tls = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_CONNECT_TIME_T, &connected);
    curl_easy_getinfo(easy_.get(), CURLINFO_APPCONNECT_TIME_T, &tls);
    if (connected == 0) return HttpFailure::kConnect;
    const bool wants_tls = absl::StartsWithIgnoreCase(request_.url, "https:");
    return wants_tls && tls == 0 ? HttpFailure::kTls : HttpFailure::kTransfer;
  }

  absl::Status ToStatus(CURLcode code) {
    if (code == CURLE_OK) return absl::OkStatus();
    absl::Status status(CodeOf(code),
                        absl::StrCat(request_.method, " ", RedactUrl(request_.url), ": ",
                                     error_[0] != 0 ? error_ : curl_easy_strerror(code)));
    HttpFailure failure = Classify(code);
    if (code == CURLE_OPERATION_TIMEDOUT) failure = TimedOutDuring();
    status.SetPayload(kFailurePayload, absl::Cord(absl::StrCat(static_cast<int>(failure))));
    return status;
  }

  absl::Status Begin() {
    if (begun_) return absl::OkStatus();
    begun_ = true;
    long status = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &status);
    response_.status = static_cast<int>(status);
    return begin_ ? begin_(response_) : absl::OkStatus();
  }

  static size_t OnHeader(char* data, size_t size, size_t count, void* self) {
    return static_cast<HttpExchange*>(self)->Header(absl::string_view(data, size * count));
  }
  static size_t OnBody(char* data, size_t size, size_t count, void* self) {
    return static_cast<HttpExchange*>(self)->Body(absl::string_view(data, size * count));
  }
  static size_t OnRead(char* out, size_t size, size_t count, void* self) {
    auto* const exchange = static_cast<HttpExchange*>(self);
    absl::StatusOr<size_t> n = exchange->request_.body->read(out, size * count);
    if (n.ok()) return *n;
    exchange->failed_ = n.status();
    return CURL_READFUNC_ABORT;
  }
  // After a redirect the body has to start over.
  static int OnSeek(void* self, curl_off_t offset, int origin) {
    auto* const exchange = static_cast<HttpExchange*>(self);
    const std::function<void()>& restart = exchange->request_.body->restart;
    if (restart == nullptr || offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_FAIL;
    restart();
    return CURL_SEEKFUNC_OK;
  }
  static CURLcode OnSslContext(CURL*, void* context, void* self) {
    auto* const exchange = static_cast<HttpExchange*>(self);
    for (const std::string& file : exchange->request_.tls.ca_files) {
      if (SSL_CTX_load_verify_locations(static_cast<SSL_CTX*>(context), file.c_str(), nullptr) == 1)
        continue;
      ERR_clear_error();
      exchange->failed_ = absl::FailedPreconditionError(
          absl::StrCat("certificate authority ", file, ": not a readable PEM file"));
      return CURLE_SSL_CACERT_BADFILE;
    }
    exchange->failed_ =
        UseClientCertificates(static_cast<SSL_CTX*>(context), exchange->request_.tls.key_pairs);
    return exchange->failed_.ok() ? CURLE_OK : CURLE_SSL_CERTPROBLEM;
  }
  static curl_socket_t OnOpenSocket(void*, curlsocktype, curl_sockaddr* address) {
    if (IsLocalAddress(&address->addr)) {
      errno = EACCES;
      return CURL_SOCKET_BAD;
    }
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  }

  size_t Header(absl::string_view line) {
    header_bytes_ += line.size();
    if (header_bytes_ > limits_.max_header_bytes) {
      failed_ = absl::ResourceExhaustedError(
          absl::StrCat(RedactUrl(request_.url), ": response headers are too large"));
      return 0;
    }
    if (absl::StartsWith(line, "HTTP/")) {
      response_.headers.clear();  // what a redirect said is of no interest
      return line.size();
    }
    const size_t colon = line.find(':');
    if (colon != absl::string_view::npos) {
      std::string& value = response_.headers[absl::AsciiStrToLower(line.substr(0, colon))];
      absl::StrAppend(&value, value.empty() ? "" : ", ",
                      absl::StripAsciiWhitespace(line.substr(colon + 1)));
    }
    return line.size();
  }

  size_t Body(absl::string_view data) {
    failed_ = Begin();
    if (!failed_.ok()) return 0;
    if (response_.status < 200 || response_.status >= 300) {
      std::string& kept = response_.error_body;
      kept.append(data.data(), std::min(data.size(), kMaxErrorBody - kept.size()));
    } else if (body_) {
      failed_ = body_(data);
    }
    return failed_.ok() ? data.size() : 0;
  }

  const HttpRequest& request_;
  const HttpLimits& limits_;
  const std::function<absl::Status(const HttpResponse&)>& begin_;
  const std::function<absl::Status(absl::string_view)>& body_;
  HttpResponse response_;
  absl::Status failed_;
  bool begun_ = false;
  size_t header_bytes_ = 0;
  char error_[CURL_ERROR_SIZE] = {};
  std::unique_ptr<curl_slist, FreeList> headers_;
  std::unique_ptr<CURL, FreeEasy> easy_;  // before multi_, which is cleaned up first
  Multi multi_;
};

HttpBody TextBody(absl::string_view text) {
  HttpBody body;
  body.size_bytes = static_cast<int64_t>(text.size());
  const auto left = std::make_shared<absl::string_view>(text);
  body.read = [left](char* out, size_t size) -> absl::StatusOr<size_t> {
    const size_t n = std::min(size, left->size());
    memcpy(out, left->data(), n);
    left->remove_prefix(n);
    return n;
  };
  body.restart = [left, text] { *left = text; };
  return body;
}

HttpFailure FailureOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kFailurePayload);
  int number = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &number))
    return HttpFailure::kNone;
  return static_cast<HttpFailure>(number);
}

bool IsLoopbackHost(absl::string_view host) {
  if (absl::StartsWith(host, "[")) return absl::StartsWith(host, "[::1]");
  if (host == "::1") return true;
  host = host.substr(0, host.find(':'));
  if (absl::EqualsIgnoreCase(host, "localhost")) return true;
  in_addr address = {};
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 &&
         ntohl(address.s_addr) >> 24 == 127;
}

const std::string& HttpResponse::Header(const std::string& lower_name) const {
  static const std::string* const kEmpty = new std::string();
  auto it = headers.find(lower_name);
  return it == headers.end() ? *kEmpty : it->second;
}

absl::StatusOr<std::string> ResolveUrl(absl::string_view base, absl::string_view reference) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), curl_url_cleanup);
  char* whole = nullptr;
  const bool good =
      !reference.empty() && url != nullptr &&
      curl_url_set(url.get(), CURLUPART_URL, std::string(base).c_str(), 0) == CURLUE_OK &&
      curl_url_set(url.get(), CURLUPART_URL, std::string(reference).c_str(), 0) == CURLUE_OK &&
      curl_url_get(url.get(), CURLUPART_URL, &whole, 0) == CURLUE_OK;
  if (!good)
    return absl::FailedPreconditionError(
        absl::StrCat("a response to ", RedactUrl(base), " refers to \"", reference, "\""));
  std::string out = whole;
  curl_free(whole);
  return out;
}

std::string RedactUrl(absl::string_view url) {
  const size_t scheme = url.find("://");
  if (scheme == absl::string_view::npos) return std::string(url);
  const size_t begin = scheme + 3;
  const size_t end = url.find_first_of("/?#", begin);
  const absl::string_view authority =
      url.substr(begin, end == absl::string_view::npos ? end : end - begin);
  const size_t at = authority.rfind('@');
  if (at == absl::string_view::npos) return std::string(url);
  return absl::StrCat(url.substr(0, begin), "xxxxx", url.substr(begin + at));
}

absl::StatusOr<HttpResponse> HttpDo(const HttpRequest& request, const HttpLimits& limits,
                                    const CancelToken& cancel,
                                    const std::function<absl::Status(const HttpResponse&)>& begin,
                                    const std::function<absl::Status(absl::string_view)>& body,
                                    HttpConnections* connections) {
  for (const auto& [name, value] : request.headers) {
    if (value.find_first_of("\r\n\0", 0, 3) != std::string::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("value of request header ", name, " contains a line break"));
  }
  return HttpExchange(request, limits, begin, body).Run(cancel, connections);
}

}  // namespace kiln::daemon
