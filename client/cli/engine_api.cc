#include "client/cli/engine_api.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/curl_library.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

constexpr size_t kMaxAnswerBytes = 32 << 20;
constexpr size_t kMaxImages = 32;
constexpr long kAskSeconds = 10;

size_t KeepAnswer(char* data, size_t size, size_t count, void* out) {
  auto* answer = static_cast<std::string*>(out);
  if (answer->size() + size * count > kMaxAnswerBytes) return 0;
  answer->append(data, size * count);
  return size * count;
}

int StopOnCancel(void* cancel, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const CancelToken*>(cancel)->Cancelled() ? 1 : 0;
}

// What the engine reports in its stream of JSON lines; "" when all went well.
std::string ErrorIn(const std::string& answer) {
  for (const absl::string_view line : absl::StrSplit(answer, '\n', absl::SkipWhitespace())) {
    const nlohmann::json json = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!json.is_object()) continue;
    for (const char* key : {"error", "message", "cause"}) {
      const auto found = json.find(key);
      if (found != json.end() && found->is_string()) return found->get<std::string>();
    }
  }
  return "";
}

// A file as a stream.
struct Upload {
  int file;
  int64_t bytes;
  int64_t done = 0;

  static size_t Read(char* out, size_t size, size_t count, void* upload) {
    return static_cast<Upload*>(upload)->Next(out, size * count);
  }
  size_t Next(char* out, size_t room) {
    if (done == bytes) return 0;
    const auto wanted =
        static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(room), bytes - done));
    ssize_t n;
    do {
      n = pread(file, out, wanted, done);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) return CURL_READFUNC_ABORT;
    done += n;
    return static_cast<size_t>(n);
  }
};

// "docker.io/library/app:1" and "app:1" are of the repository "app".
absl::string_view FamiliarRepository(absl::string_view name) {
  absl::ConsumePrefix(&name, "docker.io/");
  absl::ConsumePrefix(&name, "library/");
  const size_t colon = name.rfind(':');
  if (colon != absl::string_view::npos && name.find('/', colon) == absl::string_view::npos)
    name = name.substr(0, colon);
  return name;
}

// Whether images are in containerd, which believes in layers that an archive lacks. Otherwise
// the engine looks for a layer by what it lies on before it looks into the archive.
bool InContainerd(const nlohmann::json& info) {
  const auto status = info.find("DriverStatus");
  if (status == info.end() || !status->is_array()) return false;
  for (const nlohmann::json& pair : *status)
    if (pair.is_array() && !pair.empty() && pair[0] == "driver-type") return true;
  return false;
}

}  // namespace

struct EngineApi::Http {
  explicit Http(const CurlLibrary& library)
      : lib(library), handle(library.easy_init(), library.easy_cleanup) {}

  const CurlLibrary& lib;
  const std::unique_ptr<CURL, void (*)(CURL*)> handle;
};

EngineApi::EngineApi(std::string socket) : socket_(std::move(socket)) {}
EngineApi::~EngineApi() = default;

absl::Status EngineApi::Open() {
  if (http_ != nullptr) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(const CurlLibrary* library, CurlLibrary::Load());
  http_ = std::make_unique<Http>(*library);
  return absl::OkStatus();
}

absl::StatusOr<std::string> EngineApi::Perform(const std::string& path, const CancelToken& cancel) {
  const CurlLibrary& lib = http_->lib;
  CURL* curl = http_->handle.get();
  std::string answer;
  char error[CURL_ERROR_SIZE] = {};
  lib.easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_.c_str());
  lib.easy_setopt(curl, CURLOPT_URL, absl::StrCat("http://localhost", path).c_str());
  lib.easy_setopt(curl, CURLOPT_WRITEFUNCTION, &KeepAnswer);
  lib.easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
  lib.easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
  lib.easy_setopt(curl, CURLOPT_NOPROXY, "*");
  lib.easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  lib.easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  lib.easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &StopOnCancel);
  lib.easy_setopt(curl, CURLOPT_XFERINFODATA, &cancel);
  const CURLcode code = lib.easy_perform(curl);
  lib.easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
  if (cancel.Cancelled()) return cancel.status();
  if (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING ||
      code == CURLE_PARTIAL_FILE)
    return absl::UnavailableError(
        absl::StrCat("the engine went away (", lib.easy_strerror(code), ")"));
  if (code == CURLE_COULDNT_CONNECT)
    return absl::UnavailableError("the engine went away (nobody listens)");
  if (code != CURLE_OK)
    return absl::UnavailableError(*error != '\0' ? error : lib.easy_strerror(code));
  long status = 0;
  lib.easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status == 200) return answer;
  const std::string complaint = ErrorIn(answer);
  return absl::FailedPreconditionError(
      complaint.empty() ? absl::StrCat("the engine answered with status ", status) : complaint);
}

absl::StatusOr<std::string> EngineApi::Get(const std::string& path, const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(Open());
  const CurlLibrary& lib = http_->lib;
  CURL* curl = http_->handle.get();
  lib.easy_reset(curl);
  lib.easy_setopt(curl, CURLOPT_TIMEOUT, kAskSeconds);
  return Perform(path, cancel);
}

absl::StatusOr<std::vector<Digest>> EngineApi::KnownLayers(
    const std::vector<std::string>& repositories, size_t limit, const CancelToken& cancel) {
  std::set<absl::string_view> own;
  for (const std::string& name : repositories) own.insert(FamiliarRepository(name));
  // Members of other types than wanted make nlohmann throw.
  try {
    KILN_ASSIGN_OR_RETURN(const std::string info, Get("/info", cancel));
    if (InContainerd(nlohmann::json::parse(info))) return std::vector<Digest>();
    KILN_ASSIGN_OR_RETURN(const std::string list, Get("/images/json", cancel));
    std::vector<std::tuple<bool, int64_t, std::string>> images;  // best last
    for (const nlohmann::json& image : nlohmann::json::parse(list)) {
      const auto id = Digest::Parse(image.value("Id", ""));
      if (!id.ok()) continue;
      bool is_own = false;
      const auto tags = image.find("RepoTags");
      if (tags != image.end() && tags->is_array())
        for (const std::string tag : *tags)
          is_own = is_own || own.contains(FamiliarRepository(tag));
      images.emplace_back(is_own, image.value("Created", int64_t{0}), id->ToString());
    }
    std::sort(images.rbegin(), images.rend());
    if (images.size() > kMaxImages) images.resize(kMaxImages);
    std::set<Digest> known;
    for (const auto& [is_own, created, id] : images) {
      const absl::StatusOr<std::string> text = Get(absl::StrCat("/images/", id, "/json"), cancel);
      if (absl::IsFailedPrecondition(text.status())) continue;  // removed meanwhile
      KILN_RETURN_IF_ERROR(text.status());
      std::optional<Digest> chain;
      const nlohmann::json image = nlohmann::json::parse(*text);
      for (const std::string& layer :
           image.at("RootFS").value("Layers", std::vector<std::string>())) {
        KILN_ASSIGN_OR_RETURN(const Digest diff_id, Digest::Parse(layer));
        chain =
            chain ? Digest::Of(absl::StrCat(chain->ToString(), " ", diff_id.ToString())) : diff_id;
        if (known.size() < limit) known.insert(*chain);
      }
    }
    return std::vector<Digest>(known.begin(), known.end());
  } catch (const nlohmann::json::exception& e) {
    return absl::FailedPreconditionError(absl::StrCat("the engine's answer: ", e.what()));
  }
}

absl::Status EngineApi::Load(int file, int64_t bytes, const CancelToken& cancel) {
  KILN_RETURN_IF_ERROR(Open());
  const CurlLibrary& lib = http_->lib;
  CURL* curl = http_->handle.get();
  lib.easy_reset(curl);
  const std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(
      lib.slist_append(nullptr, "Content-Type: application/x-tar"), lib.slist_free_all);
  Upload upload{file, bytes};
  lib.easy_setopt(curl, CURLOPT_POST, 1L);
  lib.easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  lib.easy_setopt(curl, CURLOPT_READFUNCTION, &Upload::Read);
  lib.easy_setopt(curl, CURLOPT_READDATA, &upload);
  lib.easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(bytes));
  KILN_ASSIGN_OR_RETURN(const std::string answer, Perform("/images/load?quiet=1", cancel));
  // The status was sent before anything could go wrong.
  const std::string complaint = ErrorIn(answer);
  return complaint.empty() ? absl::OkStatus() : absl::FailedPreconditionError(complaint);
}

}  // namespace kiln::client
