#include "daemon/frontend/dockerfile/lint_answer.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/answer_format.h"
#include "daemon/frontend/dockerfile/syntax/excerpt.h"
#include "daemon/frontend/dockerfile/syntax/location.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/go_json.h"

namespace kiln::daemon::dockerfile {
namespace {

// The graph that loads the Dockerfile: one source, and the op that names it.
void WriteDefinition(const std::string& bytes, GoJson& json) {
  pb::Definition definition;
  definition.ParseFromString(bytes);
  json.Key("definition").BeginObject().Key("def").BeginArray();
  for (const std::string& op : definition.def()) json.Bytes(op);
  json.EndArray().Key("metadata").BeginObject();
  for (const auto& [digest, metadata] : std::map<std::string, pb::OpMetadata>(
           definition.metadata().begin(), definition.metadata().end())) {
    json.Key(digest).BeginObject();
    if (!metadata.description().empty()) {
      json.Key("description").BeginObject();
      for (const auto& [key, value] : std::map<std::string, std::string>(
               metadata.description().begin(), metadata.description().end())) {
        json.Key(key).String(value);
      }
      json.EndObject();
    }
    if (!metadata.caps().empty()) {
      json.Key("caps").BeginObject();
      for (const auto& [cap, needed] :
           std::map<std::string, bool>(metadata.caps().begin(), metadata.caps().end())) {
        json.Key(cap).Bool(needed);
      }
      json.EndObject();
    }
    json.EndObject();
  }
  json.EndObject();
  json.Key("Source").BeginObject().Key("locations").BeginObject();
  for (const auto& [digest, none] : definition.source().locations()) {
    json.Key(digest).BeginObject().EndObject();
  }
  json.EndObject().EndObject().EndObject();
}

void WriteFinding(const LintFinding& finding, GoJson& json) {
  json.BeginObject().Key("ruleName").String(finding.rule->name);
  json.OptString("description", finding.rule->description);
  json.OptString("url", finding.rule->Url());
  json.OptString("detail", finding.message).Key("location");
  WriteLocation({finding.lines}, json);
  json.EndObject();
}

std::string FindingText(const LintFinding& finding, const client::llb::SourceText& text) {
  const std::string url = finding.rule->Url();
  return absl::StrCat("\nWARNING: ", finding.rule->name, url.empty() ? "" : " - ", url, "\n",
                      finding.message, "\n", Excerpt(text.filename, text.data, finding.lines));
}

}  // namespace

BridgeResult DescribeFindings(std::vector<LintFinding> findings, const absl::Status& build_error,
                              const client::llb::SourceText& text) {
  GoJson json;
  json.BeginObject().Key("warnings");
  if (findings.empty()) {
    json.Null();
  } else {
    json.BeginArray();
    for (const LintFinding& finding : findings) WriteFinding(finding, json);
    json.EndArray();
  }
  json.Key("sources").BeginArray().BeginObject().OptString("filename", text.filename);
  if (!text.data.empty()) json.Key("data").Bytes(text.data);
  WriteDefinition(text.definition, json);
  json.OptString("language", text.language).EndObject().EndArray();
  if (!build_error.ok()) {
    json.Key("buildError").BeginObject().Key("message").String(build_error.message());
    json.Key("location");
    WriteLocation(LocationsOf(build_error), json);
    json.EndObject();
  }
  json.EndObject();

  std::stable_sort(
      findings.begin(), findings.end(),
      [](const LintFinding& a, const LintFinding& b) { return a.lines.first < b.lines.first; });
  std::string printed;
  for (const LintFinding& finding : findings) printed += FindingText(finding, text);

  BridgeResult result;
  result.metadata = {{"result.json", Indented(json.text())},
                     {"result.txt", printed},
                     {"result.statuscode", findings.empty() && build_error.ok() ? "0" : "1"},
                     {"version", "1.0.0"}};
  return result;
}

}  // namespace kiln::daemon::dockerfile
