#include "tests/integration/dockerfile_fixture.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "store/base/process.h"

namespace kiln::integration {

namespace fs = std::filesystem;

std::string DockerfileRun::File(const std::string& path) const {
  return Has(path) ? Slurp(absl::StrCat(out.path(), "/", path)) : "(none)";
}

bool DockerfileRun::Has(const std::string& path) const {
  std::error_code error;  // what cannot be looked at is not there
  return fs::exists(fs::symlink_status(absl::StrCat(out.path(), "/", path), error));
}

StepSeen DockerfileRun::StepLike(const std::string& part) const {
  StepSeen found;
  int count = 0;
  std::string all;
  for (const auto& [name, step] : seen.steps()) {
    absl::StrAppend(&all, name, "\n");
    if (!absl::StrContains(name, part)) continue;
    found = step;
    ++count;
  }
  EXPECT_EQ(count, 1) << part << " among:\n" << all;
  return found;
}

void DockerfileTest::SetUp() {
  ASSERT_EQ(::geteuid(), 0u) << "run as root: containers and overlayfs need it";
  absl::Status status = registry_.Start();
  ASSERT_TRUE(status.ok()) << status;
  KilndProcess::Options options;
  options.extra_args = {"--allow-insecure-entitlement", "network.host",
                        "--allow-insecure-entitlement", "security.insecure"};
  options.config =
      absl::StrCat("[registry.\"docker.io\"]\nmirrors = [\"", registry_.host(), "\"]\n");
  auto daemon = KilndProcess::Start(options);
  ASSERT_TRUE(daemon.ok()) << daemon.status();
  daemon_ = *std::move(daemon);

  std::istringstream applets(Output({"/bin/busybox", "--list"}));
  for (std::string applet; applets >> applet;) {
    std::error_code error;  // those that are there stay
    if (applet != "busybox") fs::create_symlink("busybox", base_.path() + "/bin/" + applet, error);
  }
  const auto write = [this](const std::string& name, const std::string& text) {
    std::ofstream(base_.path() + name) << text;
  };
  write("/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\nbin:x:2:2::/:/bin/sh\n"
        "nobody:x:65534:65534::/:/bin/sh\nuser:x:1001:1002::/:/bin/sh\n");
  write("/etc/group",
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nnobody:x:65534:\nuser:x:1002:\nextra:x:1003:user\n");
  fs::create_directories(base_.path() + "/tmp");
  Input input;
  input.locals["base"] = base_.path();
  input.attrs["context:base"] = "local:base";
  input.push = "busybox";
  Make("FROM base\nCMD [\"sh\"]\n", input);
}

void DockerfileTest::TearDown() {
  if (HasFailure() && daemon_ != nullptr) std::cerr << daemon_->Log();
}

std::unique_ptr<DockerfileRun> DockerfileTest::Try(const std::string& dockerfile,
                                                   const Input& input) {
  auto run = std::make_unique<DockerfileRun>();
  client::SolveOptions options;
  options.frontend = "dockerfile.v0";
  options.frontend_attrs = input.attrs;
  options.frontend_attrs.emplace("filename", "Dockerfile");
  dockerfile_.Write(options.frontend_attrs["filename"], dockerfile);
  options.local_dirs = {{"context", context_.path()}, {"dockerfile", dockerfile_.path()}};
  for (const auto& [name, path] : input.locals) options.local_dirs[name] = path;
  options.oci_layouts = input.oci_layouts;
  options.secrets = input.secrets;
  options.ssh = input.ssh;
  options.entitlements = input.entitlements;
  options.cache_imports = input.cache_imports;
  client::ExportRequest output;
  if (!input.push.empty()) {
    output.type = "image";
    output.attrs = {{"name", absl::StrCat(registry_.host(), "/library/", input.push)},
                    {"push", "true"}};
  } else if (!input.archive.empty()) {
    output.type = "oci";
    output.target = {.kind = client::ExportTarget::Kind::kFile, .path = input.archive};
  } else {
    output.type = "local";
    output.target = {.kind = client::ExportTarget::Kind::kDirectory, .path = run->out.path()};
  }
  output.attrs.insert(input.export_attrs.begin(), input.export_attrs.end());
  if (!input.no_output) options.outputs.push_back(output);
  client::ConnectOptions connect;
  connect.address = daemon_->address();
  auto connection = client::Connection::Open(connect);
  run->status = connection.status();
  if (!run->status.ok()) return run;
  auto result = client::Solve(**connection, options, &run->seen);
  run->status = result.status();
  if (result.ok()) run->result = *std::move(result);
  return run;
}

std::unique_ptr<DockerfileRun> DockerfileTest::Make(const std::string& dockerfile,
                                                    const Input& input) {
  auto run = Try(dockerfile, input);
  EXPECT_TRUE(run->status.ok()) << run->status << "\n" << dockerfile;
  if (!run->status.ok()) {
    for (const auto& [name, step] : run->seen.steps())
      if (!step.log.empty()) ADD_FAILURE() << name << ":\n" << step.log;
  }
  return run;
}

std::string DockerfileTest::Output(const std::vector<std::string>& args,
                                   const std::string& cwd) const {
  ProcessOptions options;
  options.args = args;
  options.cwd = cwd;
  auto out = RunCommandForOutput(options, CancelToken());
  EXPECT_TRUE(out.ok()) << out.status();
  return out.value_or("");
}

std::string DockerfileTest::PushedConfig(const std::string& name) const {
  return Output({"skopeo", "inspect", "--config", "--raw", "--tls-verify=false",
                 absl::StrCat("docker://", registry_.host(), "/library/", name)});
}

}  // namespace kiln::integration
