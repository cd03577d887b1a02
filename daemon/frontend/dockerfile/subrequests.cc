#include "daemon/frontend/dockerfile/subrequests.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/frontend/dockerfile/answer_format.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/frontend/dockerfile/graph_dump.h"
#include "daemon/frontend/dockerfile/lint_answer.h"
#include "daemon/frontend/dockerfile/outline.h"
#include "daemon/frontend/dockerfile/syntax/parse.h"
#include "daemon/frontend/dockerfile/warnings.h"
#include "proto/go_json.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

// An entry of the list of subrequests.
struct Offer {
  const char* name;
  const char* description;
  bool takes_target;
  bool lists_opts;  // [] in place of null
};
constexpr Offer kOffers[] = {
    {"frontend.outline", "List all parameters current build target supports", true, true},
    {"frontend.targets", "List all targets current build supports", false, true},
    {"frontend.subrequests.describe", "List available subrequest types", false, false},
};
constexpr char kVersion[] = "1.0.0";

void WriteNamed(const char* name, const char* description, GoJson& json) {
  json.BeginObject().Key("name").String(name).Key("description").String(description).EndObject();
}

BridgeResult Describe() {
  GoJson json;
  std::vector<std::vector<std::string>> rows = {{"NAME", "VERSION", "DESCRIPTION"}};
  json.BeginArray();
  for (const Offer& offer : kOffers) {
    json.BeginObject().Key("name").String(offer.name).Key("version").String(kVersion);
    json.Key("type").String("rpc").Key("description").String(offer.description).Key("opts");
    if (offer.lists_opts) {
      json.BeginArray();
      if (offer.takes_target) WriteNamed("target", "Target build stage", json);
      json.EndArray();
    } else {
      json.Null();
    }
    json.Key("inputs").Null().Key("metadata").BeginArray();
    WriteNamed("result.json", "", json);
    WriteNamed("result.txt", "", json);
    json.EndArray().Key("refs").Null().EndObject();
    rows.push_back(
        {std::string(absl::StripPrefix(offer.name, "frontend.")), kVersion, offer.description});
  }
  json.EndArray();
  BridgeResult result;
  result.metadata = {{"result.json", Indented(json.text())},
                     {"result.txt", Table(rows, 1)},
                     {"version", kVersion}};
  return result;
}

absl::StatusOr<BridgeResult> ListTargets(const std::string& data) {
  Document document;
  KILN_RETURN_IF_ERROR(Parse(data, &document));
  GoJson json;
  std::vector<std::vector<std::string>> rows = {{"TARGET", "DESCRIPTION"}};
  json.BeginObject().Key("targets");
  if (document.stages.empty()) {
    json.Null();
  } else {
    json.BeginArray();
  }
  for (const Stage& stage : document.stages) {
    const bool is_default = &stage == &document.stages.back();
    json.BeginObject().OptString("name", stage.name).OptBool("default", is_default);
    json.OptString("description", stage.description).OptString("base", stage.base);
    json.OptString("platform", stage.platform).Key("location");
    WriteLocation({stage.text.lines}, json);
    json.EndObject();
    std::string name = stage.name;
    if (is_default) name = name.empty() ? "(default)" : absl::StrCat(name, " (default)");
    rows.push_back({std::move(name), stage.description});
  }
  if (!document.stages.empty()) json.EndArray();
  json.Key("sources").BeginArray().Bytes(data).EndArray().EndObject();
  BridgeResult result;
  result.metadata = {{"result.json", Indented(json.text())},
                     {"result.txt", Table(rows, 1)},
                     {"version", kVersion}};
  return result;
}

absl::Status Unsupported(const std::string& id) {
  absl::Status status = absl::UnimplementedError(absl::StrCat("unsupported request ", id));
  GoJson detail;
  detail.BeginObject().Key("name").String(id).EndObject();
  AddDetail(kSubrequestDetail, detail.text(), &status);
  return status;
}

}  // namespace

absl::StatusOr<BridgeResult> AnswerSubrequest(const std::string& id, BuildSources& sources,
                                              ImageLookup& images, const Options& options,
                                              const BuildSources::Dockerfile& dockerfile) {
  if (id == "frontend.subrequests.describe") return Describe();
  if (id == "frontend.targets") return ListTargets(dockerfile.text->data);
  CompilationRequest request;
  request.sources = &sources;
  request.images = &images;
  request.options = &options;
  request.text = dockerfile.text;
  if (id == "frontend.lint") {
    std::vector<LintFinding> findings;
    request.lint = [&](const LintFinding& finding) { findings.push_back(finding); };
    request.all_stages = options.target.empty();
    const absl::Status status = Compilation(std::move(request)).Run();
    return DescribeFindings(std::move(findings), status, *dockerfile.text);
  }
  const bool outline = id == "frontend.outline";
  if (!outline && id != "frontend.convertllb") return Unsupported(id);
  request.lint = WarningSink(sources.client(), dockerfile);
  Compilation compilation(std::move(request));
  KILN_RETURN_IF_ERROR(compilation.Run());
  if (outline) return DescribeOutline(compilation, dockerfile.text->data);
  return DumpGraph(compilation);
}

}  // namespace kiln::daemon::dockerfile
