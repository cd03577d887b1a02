#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/integration/build_fixture.h"
#include "tests/integration/registry_process.h"

namespace kiln::integration {

using Attrs = std::map<std::string, std::string>;

struct ImageBuild {
  client::llb::State state = {};
  std::vector<client::ExportRequest> outputs = {};
  std::vector<client::CacheEntry> to = {}, from = {};
  std::map<std::string, std::string> locals = {};
  Attrs frontend_attrs = {};
};

client::ExportRequest ToFolder(const std::string& path);
// Pushed to a registry under this name.
client::ExportRequest ToRegistry(const std::string& name, const Attrs& more = {});
client::CacheEntry RegistryCache(const std::string& ref, const Attrs& more = {});

// Whether a step ran, instead of being cached or not needed.
bool Ran(const SeenProgress& seen, const std::string& step);

// A daemon for each test, and one registry for the suite with a base image in it: busybox as
// /bin/sh and friends.
class ImageBuildTest : public BuildTest {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;

  static RegistryProcess& registry() { return *registry_; }
  // A repository or image of the suite's registry.
  static std::string In(const std::string& name) { return registry_->host() + "/" + name; }
  static client::llb::State BaseImage();

  // The exporter's response.
  absl::StatusOr<Attrs> Solve(const ImageBuild& build, SeenProgress* seen = nullptr);
  // What `path` of the result is.
  std::string Content(ImageBuild build, const std::string& path, SeenProgress* seen = nullptr);
  // Removes everything that the daemon knows and may remove.
  void Prune() { Kiln({"prune", "--all"}); }

  // What a command prints; a failure is one of the test.
  static std::string Output(std::vector<std::string> args);
  std::string Kiln(std::vector<std::string> args);
  // What the suite's registry has, "repository", "tag or digest" or "digest".
  static nlohmann::json Manifest(const std::string& repository, const std::string& name);
  static nlohmann::json Blob(const std::string& repository, const std::string& digest);
  static bool HasManifest(const std::string& repository, const std::string& name);

  TempDir dir_;

 private:
  static std::unique_ptr<RegistryProcess> registry_;
};

}  // namespace kiln::integration
