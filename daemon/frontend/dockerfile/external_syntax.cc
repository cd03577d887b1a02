#include "daemon/frontend/dockerfile/external_syntax.h"

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/syntax/directive.h"
#include "daemon/frontend/dockerfile/syntax/location.h"
#include "daemon/registry/reference.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

// The Dockerfile language that is covered: docker/dockerfile:1.26.
constexpr int kMajor = 1;
constexpr int kMinor = 26;
constexpr char kSyntaxArg[] = "build-arg:BUILDKIT_SYNTAX";

// "1", "1.7", "1.7.0".
bool IsCoveredVersion(absl::string_view version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(version, '.');
  if (parts.size() > 3) return false;
  int numbers[3] = {kMajor, 0, 0};
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!absl::SimpleAtoi(parts[i], &numbers[i]) || numbers[i] < 0) return false;
  }
  return numbers[0] == kMajor && numbers[1] <= kMinor;
}

absl::StatusOr<BridgeResult> Forward(FrontendClient& client, const std::string& image,
                                     const std::string& cmdline) {
  FrontendClient::Solve solve;
  solve.frontend = "gateway.v0";
  solve.frontend_opts = client.opts();
  solve.frontend_opts["cmdline"] = cmdline;
  solve.frontend_opts["source"] = image;
  solve.frontend_inputs = client.inputs();
  return client.SolveGraph(solve);
}

bool HasSource(const absl::Status& status) { return status.GetPayload(kSourceDetail).has_value(); }

}  // namespace

bool IsBuiltIn(absl::string_view image) {
  if (image == "dockerfile.v0") return true;
  const auto reference = Reference::ParseFamiliar(image);
  if (!reference.ok() || reference->digest) return false;
  const std::string repository = reference->Repository();
  if (repository != "docker.io/docker/dockerfile" &&
      repository != "docker.io/docker/dockerfile-upstream") {
    return false;
  }
  const absl::string_view tag = absl::StripSuffix(reference->tag, "-labs");
  return tag.empty() || tag == "latest" || tag == "master" || tag == "labs" ||
         IsCoveredVersion(tag);
}

absl::StatusOr<std::optional<BridgeResult>> ForwardToSyntax(FrontendClient& client,
                                                            absl::string_view filename,
                                                            absl::string_view data) {
  const std::map<std::string, std::string>& opts = client.opts();
  if (opts.count("cmdline") > 0) return std::nullopt;  // this is the forwarded-to frontend
  if (const auto arg = opts.find(kSyntaxArg); arg != opts.end()) {
    const std::string text(absl::StripAsciiWhitespace(arg->second));
    const std::string image = text.substr(0, text.find(' '));
    if (IsBuiltIn(image)) return std::nullopt;
    absl::StatusOr<BridgeResult> result = Forward(client, image, arg->second);
    if (result.ok()) return *std::move(result);
    if (HasSource(result.status())) return result.status();
    return Annotate(result.status(), absl::StrCat("failed with ", kSyntaxArg, " = ", arg->second));
  }
  const std::optional<SyntaxDirective> directive = FindSyntax(data);
  if (!directive || IsBuiltIn(directive->image)) return std::nullopt;
  absl::StatusOr<BridgeResult> result = Forward(client, directive->image, directive->cmdline);
  if (result.ok()) return *std::move(result);
  if (HasSource(result.status())) return result.status();
  return AttachSource(
      WithOnlyLocation(result.status(), LineRange{directive->line, directive->line}), filename,
      data);
}

}  // namespace kiln::daemon::dockerfile
