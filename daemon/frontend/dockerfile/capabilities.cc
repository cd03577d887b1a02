#include "daemon/frontend/dockerfile/capabilities.h"

#include <array>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/go_json.h"
#include "proto/status_details.h"

namespace kiln::daemon::dockerfile {

CapabilityCheck CheckCapabilities(absl::string_view wanted) {
  static constexpr std::array<absl::string_view, 4> kOffered = {
      "moby.buildkit.frontend.inputs", "moby.buildkit.frontend.subrequests",
      "moby.buildkit.frontend.contexts", "moby.buildkit.frontend.gitquerystring"};
  CapabilityCheck check;
  for (absl::string_view item : absl::StrSplit(wanted, ',', absl::SkipEmpty())) {
    const absl::string_view name = item.substr(0, item.find('+'));
    bool offered = false;
    for (absl::string_view known : kOffered) offered |= known == name;
    if (offered) continue;
    check.status = absl::UnimplementedError(absl::StrCat("unsupported frontend capability ", name));
    GoJson detail;
    detail.BeginObject().Key("name").String(name).EndObject();
    AddDetail(kFrontendCapDetail, detail.text(), &check.status);
    check.forward = absl::StrContains(item, "+forward");
    if (!check.forward) return check;
  }
  return check;
}

}  // namespace kiln::daemon::dockerfile
