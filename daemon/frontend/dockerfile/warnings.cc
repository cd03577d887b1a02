#include "daemon/frontend/dockerfile/warnings.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"

namespace kiln::daemon::dockerfile {

Linter::Sink WarningSink(FrontendClient& client, const BuildSources::Dockerfile& dockerfile) {
  return [&client, &dockerfile](const LintFinding& finding) {
    const client::llb::SourceText& text = *dockerfile.text;
    pb::SourceInfo info;
    info.set_filename(text.filename);
    info.set_language(text.language);
    info.set_data(text.data);
    info.mutable_definition()->ParseFromString(text.definition);
    solver::Warning warning;
    warning.short_text = absl::StrCat(finding.rule->name, ": ", finding.message);
    if (finding.lines.first > 0) {
      absl::StrAppend(&warning.short_text, " (line ", finding.lines.first, ")");
    }
    warning.detail = {std::string(finding.rule->description)};
    warning.url = finding.rule->Url();
    warning.source_info = info.SerializeAsString();
    // An image that no FROM names stands in no line.
    for (int line = finding.lines.first; line > 0 && line <= finding.lines.last; ++line) {
      pb::Range range;
      range.mutable_start()->set_line(line);
      range.mutable_end()->set_line(line);
      warning.ranges.push_back(range.SerializeAsString());
    }
    // A warning that cannot be shown fails no build.
    client.Warn(dockerfile.vertex, warning).IgnoreError();
  };
}

}  // namespace kiln::daemon::dockerfile
