#pragma once

#include <curl/curl.h>

#include "absl/status/statusor.h"

namespace kiln::client {

// The functions of libcurl, which is loaded when it is first needed: the two dozen libraries below
// it took 40 % of the start of a program that mostly does without them.
struct CurlLibrary {
  // The library, which is never unloaded. kFailedPrecondition when it is not installed. Blocks on
  // disk the first time. Thread-safe.
  static absl::StatusOr<const CurlLibrary*> Load();

  decltype(&curl_easy_init) easy_init;
  decltype(&curl_easy_cleanup) easy_cleanup;
  decltype(&curl_easy_reset) easy_reset;
  decltype(&curl_easy_setopt) easy_setopt;
  decltype(&curl_easy_perform) easy_perform;
  decltype(&curl_easy_getinfo) easy_getinfo;
  decltype(&curl_easy_strerror) easy_strerror;
  decltype(&curl_slist_append) slist_append;
  decltype(&curl_slist_free_all) slist_free_all;
};

}  // namespace kiln::client
