#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "daemon/frontend/dockerfile/frontend.h"
#include "proto/buildkit/ops.pb.h"
#include "tests/daemon/frontend/dockerfile/fake_client.h"

namespace kiln::daemon {

// Runs the frontend on a Dockerfile and looks at what it made.
class FrontendFixture : public testing::Test {
 protected:
  FrontendFixture() {
    client_.AddImage("busybox");
    client_.AddImage("alpine", R"("Env":["PATH=/alpine"])");
  }

  absl::StatusOr<BridgeResult> Build(const std::string& dockerfile) {
    client_.options.emplace("filename", "Dockerfile");
    client_.locals["dockerfile"]["Dockerfile"] = dockerfile;
    return frontend_.Run(client_);
  }

  // The image's config, or its member "config".
  nlohmann::json Image(const absl::StatusOr<BridgeResult>& result,
                       const std::string& suffix = "") const {
    if (!result.ok()) return {};
    return nlohmann::json::parse(result->metadata.at("containerimage.config" + suffix));
  }
  nlohmann::json Config(const absl::StatusOr<BridgeResult>& result) const {
    return Image(result).at("config");
  }
  std::vector<std::string> History(const absl::StatusOr<BridgeResult>& result) const {
    std::vector<std::string> lines;
    const nlohmann::json image = Image(result);
    if (!image.contains("history")) return lines;
    for (const auto& item : image["history"]) lines.push_back(item["created_by"]);
    return lines;
  }

  // The graph that was solved last.
  pb::Definition Graph() const {
    pb::Definition definition;
    definition.ParseFromString(client_.Solves().back().definition);
    return definition;
  }
  // Its ops that satisfy `has`, in order.
  template <typename Has>
  std::vector<pb::Op> Ops(Has has) const {
    std::vector<pb::Op> ops;
    const pb::Definition graph = Graph();
    for (const std::string& bytes : graph.def()) {
      pb::Op op;
      op.ParseFromString(bytes);
      if (has(op)) ops.push_back(op);
    }
    return ops;
  }
  std::vector<pb::Op> Execs() const {
    return Ops([](const pb::Op& op) { return op.has_exec(); });
  }
  std::vector<pb::Op> Files() const {
    return Ops([](const pb::Op& op) { return op.has_file(); });
  }
  std::vector<pb::Op> Sources() const {
    return Ops([](const pb::Op& op) { return op.has_source(); });
  }
  // The names of its steps.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    const pb::Definition graph = Graph();
    for (const std::string& bytes : graph.def()) {
      const auto found = graph.metadata().find(Digest::Of(bytes).ToString());
      if (found == graph.metadata().end()) continue;
      const auto name = found->second.description().find("llb.customname");
      if (name != found->second.description().end()) names.push_back(name->second);
    }
    return names;
  }
  std::vector<std::string> Env(const pb::Op& exec) const {
    return {exec.exec().meta().env().begin(), exec.exec().meta().env().end()};
  }
  std::vector<std::string> Args(const pb::Op& exec) const {
    return {exec.exec().meta().args().begin(), exec.exec().meta().args().end()};
  }
  std::vector<std::string> Warnings() const {
    std::vector<std::string> texts;
    for (const auto& [vertex, warning] : client_.Warnings()) texts.push_back(warning.short_text);
    return texts;
  }

  FakeClient client_;
  DockerfileFrontend frontend_;
};

}  // namespace kiln::daemon
