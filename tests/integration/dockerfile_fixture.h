#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/session/secrets.h"
#include "client/session/ssh_agents.h"
#include "client/solve/solve.h"
#include "tests/integration/build_fixture.h"
#include "tests/integration/registry_process.h"

namespace kiln::integration {

// What one build of a Dockerfile gave.
struct DockerfileRun {
  absl::Status status;
  client::SolveResult result;
  SeenProgress seen;
  TempDir out;  // the result's files

  // "(none)" when there is no such file.
  std::string File(const std::string& path) const;
  bool Has(const std::string& path) const;
  // The only step whose name holds `part`; fails the test when there is not exactly one.
  StepSeen StepLike(const std::string& part) const;
};

// What goes into one, beside the Dockerfile and the test's context.
struct DockerfileInput {
  std::map<std::string, std::string> attrs = {};   // of the frontend
  std::map<std::string, std::string> locals = {};  // beside "context" and "dockerfile"
  std::map<std::string, std::string> oci_layouts = {};
  client::SecretStore secrets = {};
  client::SshAgents ssh = {};
  std::vector<std::string> entitlements = {};
  std::vector<client::CacheEntry> cache_imports = {};
  std::string push = {};     // a name: the result becomes an image of docker.io, no files
  std::string archive = {};  // a path: the result becomes an OCI archive, no files
  std::map<std::string, std::string> export_attrs = {};
  bool no_output = false;
};

// Dockerfiles built by a real kilnd. "busybox" comes from a registry that stands for docker.io, as
// an image with all applets and the users of a small distribution.
class DockerfileTest : public testing::Test {
 protected:
  using Input = DockerfileInput;

  void SetUp() override;
  void TearDown() override;

  // Builds; failure is in the status.
  std::unique_ptr<DockerfileRun> Try(const std::string& dockerfile, const Input& input = {});
  // Builds what must succeed.
  std::unique_ptr<DockerfileRun> Make(const std::string& dockerfile, const Input& input = {});

  // A program of this machine, which must succeed; its output.
  std::string Output(const std::vector<std::string>& args, const std::string& cwd = "/") const;
  // The config of an image in the registry, JSON.
  std::string PushedConfig(const std::string& name) const;

  TempDir context_, dockerfile_;
  RegistryProcess registry_;
  std::unique_ptr<KilndProcess> daemon_;

 private:
  // The base image, as a folder.
  BusyboxBase base_;
};

}  // namespace kiln::integration
