#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/dispatch.h"

namespace kiln::daemon::dockerfile {
namespace {

// RTMIN, RTMIN+1 to RTMIN+15, RTMAX-14 to RTMAX-1, RTMAX.
bool IsRealTime(absl::string_view name) {
  if (name == "RTMIN" || name == "RTMAX") return true;
  int offset = 0;
  if (absl::ConsumePrefix(&name, "RTMIN+")) {
    return absl::SimpleAtoi(name, &offset) && offset >= 1 && offset <= 15 &&
           absl::StrCat(offset) == name;
  }
  return absl::ConsumePrefix(&name, "RTMAX-") && absl::SimpleAtoi(name, &offset) && offset >= 1 &&
         offset <= 14 && absl::StrCat(offset) == name;
}

}  // namespace

absl::Status CheckSignal(const std::string& text) {
  static const auto& names = *new absl::flat_hash_set<absl::string_view>(
      {"ABRT", "ALRM",   "BUS",  "CHLD",   "CLD",   "CONT", "FPE",  "HUP",  "ILL",
       "INT",  "IO",     "IOT",  "KILL",   "PIPE",  "POLL", "PROF", "PWR",  "QUIT",
       "SEGV", "STKFLT", "STOP", "SYS",    "TERM",  "TRAP", "TSTP", "TTIN", "TTOU",
       "URG",  "USR1",   "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ"});
  int64_t number = 0;
  if (absl::SimpleAtoi(text, &number)) {
    if (number != 0) return absl::OkStatus();
  } else {
    const std::string upper = absl::AsciiStrToUpper(text);
    const absl::string_view name = absl::StripPrefix(upper, "SIG");
    if (names.contains(name) || IsRealTime(name)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("invalid signal: ", text));
}

}  // namespace kiln::daemon::dockerfile
