#include "client/cli/curl_library.h"

#include <dlfcn.h>

#include <type_traits>

#include "absl/strings/str_cat.h"

namespace kiln::client {
namespace {

constexpr char kFile[] = "libcurl.so.4";

absl::StatusOr<CurlLibrary> Open() {
  const auto failed = [] {
    const char* why = dlerror();
    return absl::FailedPreconditionError(
        absl::StrCat("load ", kFile, ": ", why != nullptr ? why : "unknown error"));
  };
  void* const file = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (file == nullptr) return failed();
  bool found = true;
  const auto find = [&](const char* name, auto* function) {
    *function = reinterpret_cast<std::remove_reference_t<decltype(*function)>>(dlsym(file, name));
    found = found && *function != nullptr;
  };
  CurlLibrary library;
  find("curl_easy_init", &library.easy_init);
  find("curl_easy_cleanup", &library.easy_cleanup);
  find("curl_easy_reset", &library.easy_reset);
  find("curl_easy_setopt", &library.easy_setopt);
  find("curl_easy_perform", &library.easy_perform);
  find("curl_easy_getinfo", &library.easy_getinfo);
  find("curl_easy_strerror", &library.easy_strerror);
  find("curl_slist_append", &library.slist_append);
  find("curl_slist_free_all", &library.slist_free_all);
  if (!found) return failed();
  return library;
}

}  // namespace

absl::StatusOr<const CurlLibrary*> CurlLibrary::Load() {
  static const absl::StatusOr<CurlLibrary> library = Open();
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace kiln::client
