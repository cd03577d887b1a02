#include "daemon/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/base/fd.h"
#include "tests/daemon/rpc/temp_dir.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// No file of the machine is read.
class ConfigTest : public testing::Test {
 protected:
  absl::StatusOr<Config> Load(std::vector<std::string> args, const std::string& toml = "") {
    const std::string path = dir_.File("buildkitd.toml");
    EXPECT_TRUE(WriteFileAtomic(path, toml).ok());
    args.insert(args.begin(), {"--config", path});
    return LoadConfig(args);
  }
  TempDir dir_;
};

TEST_F(ConfigTest, FlagsInBothForms) {
  const auto config =
      Load({"--root", "/r", "--addr=unix:///a", "-addr", "tcp://:1", "--debug", "--group=docker",
            "--allow-insecure-entitlement", "network.host", "--oci-worker=true",
            "--oci-max-parallelism", "3", "--oci-worker-labels", "a=b,c=d"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->root, "/r");
  EXPECT_THAT(config->addresses, ElementsAre("unix:///a", "tcp://:1"));
  EXPECT_TRUE(config->debug);
  EXPECT_EQ(config->group, "docker");
  EXPECT_THAT(config->entitlements, ElementsAre("network.host"));
  EXPECT_EQ(config->max_parallelism, 3);
  EXPECT_EQ(config->labels.at("c"), "d");
  EXPECT_THAT(config->warnings, testing::IsEmpty());
  EXPECT_FALSE(Load({"--debug=false"}, "debug = true")->debug);
}

TEST_F(ConfigTest, Devices) {
  const auto none = Load({});
  EXPECT_FALSE(none->cdi_disabled);
  EXPECT_THAT(none->cdi_spec_dirs, ElementsAre("/etc/cdi", "/var/run/cdi", "/etc/buildkit/cdi"));
  const char* toml = R"(
[cdi]
  disabled = true
  specDirs = [ "/a" ]
  autoAllowed = [ "vendor.com/gpu" ]
)";
  const auto file = Load({}, toml);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->cdi_disabled);
  EXPECT_THAT(file->cdi_spec_dirs, ElementsAre("/a"));
  EXPECT_THAT(file->cdi_auto_allowed, ElementsAre("vendor.com/gpu"));
  const auto flags =
      Load({"--cdi-disabled=false", "--cdi-spec-dir=/b", "--cdi-spec-dir", "/c"}, toml);
  EXPECT_FALSE(flags->cdi_disabled);
  EXPECT_THAT(flags->cdi_spec_dirs, ElementsAre("/b", "/c"));
  EXPECT_THAT(flags->warnings, testing::IsEmpty());
}

TEST_F(ConfigTest, FlagsWithoutEffectAreNamed) {
  const auto config =
      Load({"--containerd-worker=false", "--containerd-worker-addr", "/x", "--rootless"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->warnings,
              ElementsAre(HasSubstr("--containerd-worker "), HasSubstr("--containerd-worker-addr"),
                          HasSubstr("--rootless")));
}

TEST_F(ConfigTest, D4_FileIsReadAndTheCommandLineWins) {
  const char* toml = R"(
debug = true
root = "/from/file"
insecure-entitlements = [ "network.host", "security.insecure" ]
[grpc]
  address = [ "unix:///one", "tcp://0.0.0.0:1234" ]
  uid = 0
  gid = 7
  [grpc.tls]
    cert = "/c"
    key = "/k"
    ca = "/a"
[worker.oci]
  snapshotter = "native"
  max-parallelism = 4
  gc = true
  maxUsedSpace = "20GB"
  [worker.oci.labels]
    "foo" = "bar"
  [[worker.oci.gcpolicy]]
    keepBytes = 512000000
    keepDuration = "48h"
[worker.containerd]
  enabled = true
[registry."docker.io"]
  mirrors = ["m"]
[dns]
  nameservers = ["1.1.1.1"]
)";
  const auto config = Load({"--root", "/r"}, toml);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->debug);
  EXPECT_EQ(config->root, "/r");
  EXPECT_THAT(config->addresses, ElementsAre("unix:///one", "tcp://0.0.0.0:1234"));
  EXPECT_EQ(config->gid, 7u);
  EXPECT_EQ(config->tls_ca, "/a");
  EXPECT_EQ(config->snapshotter, "native");
  EXPECT_EQ(config->max_parallelism, 4);
  EXPECT_EQ(config->labels.at("foo"), "bar");
  EXPECT_THAT(config->dns_nameservers, ElementsAre("1.1.1.1"));
  ASSERT_EQ(config->warnings.size(), 1u);
  EXPECT_THAT(config->warnings[0], testing::AllOf(HasSubstr("worker.containerd"),
                                                  testing::Not(HasSubstr("worker.oci"))));
  EXPECT_TRUE(config->gc.enabled);
  EXPECT_EQ(config->gc.max_used.bytes, 20'000'000'000);
  ASSERT_EQ(config->gc.policies.size(), 1u);
  EXPECT_EQ(config->gc.policies[0].reserved.bytes, 512000000);
  EXPECT_EQ(config->gc.policies[0].keep_duration, absl::Hours(48));
  // A list on the command line replaces the file's.
  EXPECT_THAT(Load({"--addr", "unix:///x"}, toml)->addresses, ElementsAre("unix:///x"));
}

TEST_F(ConfigTest, Frontends) {
  const auto standard = Load({}, "");
  ASSERT_TRUE(standard.ok()) << standard.status();
  EXPECT_TRUE(standard->dockerfile_frontend);
  EXPECT_TRUE(standard->gateway_frontend);
  EXPECT_TRUE(standard->frontend_repositories.empty());
  const auto config = Load({}, R"(
[frontend."dockerfile.v0"]
  enabled = false
[frontend."gateway.v0"]
  enabled = false
  allowedRepositories = [ "docker/dockerfile", "localhost:5000/f" ]
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->dockerfile_frontend);
  EXPECT_FALSE(config->gateway_frontend);
  EXPECT_THAT(config->frontend_repositories, ElementsAre("docker/dockerfile", "localhost:5000/f"));
  EXPECT_TRUE(config->warnings.empty());
}

struct BadConfig {
  const char* name;
  std::vector<std::string> args;
  const char* toml;
  const char* text;
};
class ConfigRefuses : public ConfigTest, public testing::WithParamInterface<BadConfig> {};

TEST_P(ConfigRefuses, NamesIt) {
  const absl::Status status = Load(GetParam().args, GetParam().toml).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().text));
}

INSTANTIATE_TEST_SUITE_P(
    Input, ConfigRefuses,
    testing::ValuesIn<BadConfig>({
        {"UnknownFlag", {"--rooot", "x"}, "", "flag provided but not defined: --rooot"},
        {"NoValue", {"--root"}, "", "flag needs an argument: --root"},
        {"BadBool", {"--debug=maybe"}, "", "maybe"},
        {"Argument", {"stray"}, "", "stray"},
        {"Entitlement", {"--allow-insecure-entitlement", "all"}, "", "\"all\""},
        {"Snapshotter", {"--oci-worker-snapshotter=zfs"}, "", "zfs"},
        {"CertWithoutKey", {"--tlscert", "/c"}, "", "certificate and its key"},
        {"Mode", {"--socket-mode", "abc"}, "", "abc"},
        {"TomlSyntax", {}, "debug = = true", "buildkitd.toml"},
        {"TomlSize", {}, "[worker.oci]\nmaxUsedSpace = \"much\"", "maxUsedSpace: \"much\""},
        {"TomlType", {}, "root = 3", "key root: must be a string"},
        {"Registry", {}, "[registry.\"r:1\"]\nca = [1]", "\"r:1\".ca: must be an array of strings"},
        {"KeyPair",
         {},
         "[[registry.\"r:1\".keypair]]\nkey = \"k\"",
         "keypair: must be tables with the strings key and cert"},
    }),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Config, Registries) {
  Config config;
  const absl::Status status = ApplyToml(R"(
[system]
  maxRegistryConcurrency = 7
[registry."docker.io"]
  mirrors = ["mirror.test:5000/prefix"]
  colour = "red"
[registry."mirror.test:5000"]
  http = true
  insecure = false
  ca = ["/ca.pem"]
  tlsconfigdir = ["/etc/tls"]
  [[registry."mirror.test:5000".keypair]]
    key = "/key.pem"
    cert = "/cert.pem"
)",
                                        "buildkitd.toml", &config);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(config.max_registry_concurrency, 7);
  const RegistryHostConfig& hub = config.registries["docker.io"];
  EXPECT_THAT(hub.mirrors, testing::ElementsAre("mirror.test:5000/prefix"));
  EXPECT_FALSE(hub.http.has_value());
  const RegistryHostConfig& mirror = config.registries["mirror.test:5000"];
  EXPECT_EQ(mirror.http, true);
  EXPECT_EQ(mirror.insecure, false);
  EXPECT_THAT(mirror.ca_files, testing::ElementsAre("/ca.pem"));
  EXPECT_THAT(mirror.tls_config_dirs, testing::ElementsAre("/etc/tls"));
  ASSERT_EQ(mirror.key_pairs.size(), 1u);
  EXPECT_EQ(mirror.key_pairs[0].cert_file, "/cert.pem");
  EXPECT_THAT(config.warnings, testing::ElementsAre(testing::HasSubstr("colour")));
}

TEST(Config, AbsentFileIsAnErrorOnlyWhenNamed) {
  const std::vector<std::string> args = {"--config", "/does/not/exist.toml"};
  EXPECT_THAT(std::string(LoadConfig(args).status().message()), HasSubstr("/does/not/exist.toml"));
}

TEST(Config, HelpNamesTheFlags) {
  for (const char* flag : {"--root", "--addr", "--group", "--tlscert"})
    EXPECT_THAT(HelpText(), HasSubstr(flag));
}

}  // namespace
}  // namespace kiln::daemon
