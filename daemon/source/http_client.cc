#include "daemon/source/http_client.h"

#include <curl/curl.h>

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxHeaderBytes = 1 << 20;

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One exchange. The multi interface is used for its poll, which a cancel can wake.
class Exchange {
 public:
  Exchange(const HttpRequest& request, const HttpLimits& limits,
           const std::function<absl::Status(const HttpResponse&)>& begin,
           const std::function<absl::Status(absl::string_view)>& body)
      : request_(request), limits_(limits), begin_(begin), body_(body) {}

  absl::StatusOr<HttpResponse> Run(const CancelToken& cancel) {
    static const CURLcode kGlobal = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (kGlobal != CURLE_OK) return absl::InternalError("libcurl does not initialise");
    easy_.reset(curl_easy_init());
    multi_.reset(curl_multi_init());
    if (easy_ == nullptr || multi_ == nullptr) return absl::ResourceExhaustedError("libcurl");
    KILN_RETURN_IF_ERROR(SetUp());
    if (curl_multi_add_handle(multi_.get(), easy_.get()) != CURLM_OK)
      return absl::InternalError("libcurl refuses the transfer");
    absl::StatusOr<CURLcode> code;
    {
      CancelRegistration wake = cancel.OnCancel([this] { curl_multi_wakeup(multi_.get()); });
      code = Drive(cancel);
    }
    curl_multi_remove_handle(multi_.get(), easy_.get());
    if (!code.ok()) return code.status();
    if (!failed_.ok()) return failed_;
    KILN_RETURN_IF_ERROR(ToStatus(*code));
    KILN_RETURN_IF_ERROR(Begin());  // a response without a body
    return std::move(response_);
  }

 private:
  absl::Status SetUp() {
    CURL* const e = easy_.get();
    curl_slist* list = nullptr;
    for (const auto& [name, value] : request_.headers) {
      // "Name;" is how libcurl writes an empty value.
      const std::string line =
          value.empty() ? absl::StrCat(name, ";") : absl::StrCat(name, ": ", value);
      curl_slist* longer = curl_slist_append(list, line.c_str());
      if (longer == nullptr) {
        curl_slist_free_all(list);
        return absl::ResourceExhaustedError("request headers");
      }
      list = longer;
    }
    headers_.reset(list);
    curl_easy_setopt(e, CURLOPT_URL, request_.url.c_str());
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers_.get());
    curl_easy_setopt(e, CURLOPT_NOBODY, request_.head ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(e, CURLOPT_UNRESTRICTED_AUTH, 0L);
    curl_easy_setopt(e, CURLOPT_MAXREDIRS, static_cast<long>(limits_.max_redirects));
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS,
                     static_cast<long>(absl::ToInt64Milliseconds(limits_.connect_timeout)));
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME,
                     static_cast<long>(absl::ToInt64Seconds(limits_.stall_timeout)));
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, &Exchange::OnHeader);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, &Exchange::OnBody);
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

  absl::Status ToStatus(CURLcode code) {
    if (code == CURLE_OK) return absl::OkStatus();
    const std::string what = absl::StrCat(request_.head ? "HEAD " : "GET ", RedactUrl(request_.url),
                                          ": ", error_[0] != 0 ? error_ : curl_easy_strerror(code));
    switch (code) {
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
        return absl::InvalidArgumentError(what);
      case CURLE_TOO_MANY_REDIRECTS:
        return absl::FailedPreconditionError(what);
      case CURLE_OPERATION_TIMEDOUT:
        return absl::DeadlineExceededError(what);
      case CURLE_PEER_FAILED_VERIFICATION:
        return absl::FailedPreconditionError(what);
      default:
        return absl::UnavailableError(what);
    }
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
    return static_cast<Exchange*>(self)->Header(absl::string_view(data, size * count));
  }
  static size_t OnBody(char* data, size_t size, size_t count, void* self) {
    return static_cast<Exchange*>(self)->Body(absl::string_view(data, size * count));
  }

  size_t Header(absl::string_view line) {
    header_bytes_ += line.size();
    if (header_bytes_ > kMaxHeaderBytes) {
      failed_ = absl::ResourceExhaustedError(
          absl::StrCat(RedactUrl(request_.url), ": response headers are too large"));
      return 0;
    }
    if (absl::StartsWith(line, "HTTP/")) {
      response_.headers.clear();  // what a redirect said is of no interest
      return line.size();
    }
    const size_t colon = line.find(':');
    if (colon != absl::string_view::npos)
      response_.headers[absl::AsciiStrToLower(line.substr(0, colon))] =
          std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    return line.size();
  }

  size_t Body(absl::string_view data) {
    failed_ = Begin();
    if (failed_.ok() && response_.status >= 200 && response_.status < 300 && body_)
      failed_ = body_(data);
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
  std::unique_ptr<CURLM, FreeMulti> multi_;
};

}  // namespace

const std::string& HttpResponse::Header(const std::string& lower_name) const {
  static const std::string* const kEmpty = new std::string();
  auto it = headers.find(lower_name);
  return it == headers.end() ? *kEmpty : it->second;
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
                                    const std::function<absl::Status(absl::string_view)>& body) {
  for (const auto& [name, value] : request.headers) {
    if (value.find_first_of("\r\n\0", 0, 3) != std::string::npos)
      return absl::InvalidArgumentError(
          absl::StrCat("value of request header ", name, " contains a line break"));
  }
  return Exchange(request, limits, begin, body).Run(cancel);
}

}  // namespace kiln::daemon
