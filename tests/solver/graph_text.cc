#include "tests/solver/graph_text.h"

#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/op_bytes.h"
#include "store/base/check.h"

namespace kiln::solver {

std::vector<VertexText> ParseGraph(absl::string_view text) {
  std::vector<VertexText> graph;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    if (words.empty()) continue;
    VertexText vertex;
    KILN_CHECK(words[0].back() == ':');
    vertex.name = words[0].substr(0, words[0].size() - 1);
    for (size_t i = 1; i < words.size(); ++i) {
      const std::string& word = words[i];
      if (word.find('=') != std::string::npos || word == "ignore" || word == "noslot" ||
          word == "cheap" || word == "mine" || word == "early") {
        vertex.options.push_back(word);
        continue;
      }
      std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('.', 1));
      int output = 0;
      if (!parts.second.empty()) KILN_CHECK(absl::SimpleAtoi(parts.second, &output));
      vertex.inputs.emplace_back(parts.first, output);
    }
    graph.push_back(std::move(vertex));
  }
  return graph;
}

std::string DefinitionOf(absl::string_view text) {
  pb::Definition definition;
  std::map<std::string, std::string> digests;
  std::string last;
  for (const VertexText& vertex : ParseGraph(text)) {
    pb::Op op;
    std::vector<std::string> spec = {vertex.name};
    bool ignore = false;
    for (const std::string& option : vertex.options) {
      if (option == "ignore") {
        ignore = true;
      } else {
        spec.push_back(option);
      }
    }
    for (const auto& [name, output] : vertex.inputs) {
      pb::Input* input = op.add_inputs();
      KILN_CHECK(digests.contains(name));
      input->set_digest(digests[name]);
      input->set_index(output);
    }
    const std::string joined = absl::StrJoin(spec, " ");
    if (vertex.inputs.empty()) {
      op.mutable_source()->set_identifier(joined);
    } else {
      op.mutable_exec()->mutable_meta()->add_args(joined);
      op.mutable_exec()->add_mounts()->set_dest("/");
    }
    const std::string bytes = CanonicalBytes(op);
    last = Digest::Of(bytes).ToString();
    digests[vertex.name] = last;
    pb::OpMetadata& metadata = (*definition.mutable_metadata())[last];
    metadata.set_ignore_cache(ignore);
    (*metadata.mutable_description())["llb.customname"] = vertex.name;
    definition.add_def(bytes);
  }
  pb::Op terminal;
  terminal.add_inputs()->set_digest(last);
  definition.add_def(CanonicalBytes(terminal));
  return CanonicalBytes(definition);
}

}  // namespace kiln::solver
