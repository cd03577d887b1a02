#include "client/progress/display.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/progress/plain_display.h"
#include "client/progress/raw_json_display.h"
#include "client/progress/tty_display.h"
#include "store/base/check.h"
#include "store/base/fd.h"

namespace kiln::client {
namespace {

class QuietDisplay : public Display {
 public:
  void OnUpdate(const ProgressUpdate&) override {}
  void Finish(const absl::Status&) override {}
};

}  // namespace

absl::StatusOr<ProgressMode> ParseProgressMode(absl::string_view text) {
  if (text == "auto") return ProgressMode::kAuto;
  if (text == "tty") return ProgressMode::kTty;
  if (text == "plain") return ProgressMode::kPlain;
  if (text == "rawjson") return ProgressMode::kRawJson;
  if (text == "quiet") return ProgressMode::kQuiet;
  return absl::InvalidArgumentError(
      absl::StrCat("progress \"", text, "\" is none of auto, tty, plain, rawjson, quiet"));
}

DisplayOutput OutputTo(int fd) {
  DisplayOutput output;
  // A terminal that went away must not end the build.
  output.write = [fd](absl::string_view text) { (void)WriteAll(fd, text); };
  output.size = [fd] {
    winsize size = {};
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
      return TerminalSize();
    }
    return TerminalSize{size.ws_col, size.ws_row};
  };
  output.now = [] { return absl::Now(); };
  const char* no_color = std::getenv("NO_COLOR");
  output.color = isatty(fd) == 1 && (no_color == nullptr || *no_color == '\0');
  return output;
}

ProgressMode ResolveMode(ProgressMode mode, int fd) {
  if (mode != ProgressMode::kAuto) return mode;
  const char* term = std::getenv("TERM");
  const bool dumb = term == nullptr || absl::string_view(term) == "dumb";
  return isatty(fd) == 1 && !dumb ? ProgressMode::kTty : ProgressMode::kPlain;
}

std::unique_ptr<Display> MakeDisplay(ProgressMode mode, DisplayOutput output) {
  switch (mode) {
    case ProgressMode::kTty:
      return std::make_unique<TtyDisplay>(std::move(output));
    case ProgressMode::kPlain:
      return std::make_unique<PlainDisplay>(std::move(output));
    case ProgressMode::kRawJson:
      return std::make_unique<RawJsonDisplay>(std::move(output));
    case ProgressMode::kQuiet:
      return std::make_unique<QuietDisplay>();
    case ProgressMode::kAuto:
      break;
  }
  CheckFailed(__FILE__, __LINE__, "ResolveMode was not called");
}

}  // namespace kiln::client
