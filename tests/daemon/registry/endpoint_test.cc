#include "daemon/registry/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/store/temp_dir.h"

namespace kiln::daemon {
namespace {

std::vector<Endpoint> Of(const RegistryConfig& config, const std::string& name,
                         Purpose purpose = Purpose::kPull, bool insecure = false) {
  auto endpoints = Endpoints(config, *Reference::ParseFamiliar(name), purpose, insecure);
  EXPECT_TRUE(endpoints.ok()) << endpoints.status();
  return endpoints.ok() ? *endpoints : std::vector<Endpoint>{};
}

struct UrlCase {
  const char* name;
  const char* url;
};
class EndpointUrlTest : public testing::TestWithParam<UrlCase> {};

TEST_P(EndpointUrlTest, WithoutConfiguration) {
  const auto endpoints = Of({}, GetParam().name);
  ASSERT_EQ(endpoints.size(), 1u);
  EXPECT_EQ(endpoints[0].url, GetParam().url);
  EXPECT_FALSE(endpoints[0].may_fall_back);
  EXPECT_EQ(endpoints[0].namespace_query, "");
}

INSTANTIATE_TEST_SUITE_P(Hosts, EndpointUrlTest,
                         testing::ValuesIn<UrlCase>({
                             {"busybox", "https://registry-1.docker.io/v2/library/busybox"},
                             {"ex.com/x", "https://ex.com/v2/x"},
                             {"localhost:5000/x", "http://localhost:5000/v2/x"},
                             {"127.1.2.3/x", "http://127.1.2.3/v2/x"},
                             {"[::1]:5000/x", "http://[::1]:5000/v2/x"},
                             {"localhost.example.com/x", "https://localhost.example.com/v2/x"},
                             {"128.0.0.1/x", "https://128.0.0.1/v2/x"},
                         }));

TEST(EndpointTest, MirrorsComeFirstWithTheirOwnSettings) {
  RegistryConfig config;
  config["docker.io"].mirrors = {"https://mirror.test:5000/some/prefix/", "docker.io"};
  config["mirror.test:5000"].http = true;
  const auto endpoints = Of(config, "busybox");
  ASSERT_EQ(endpoints.size(), 3u);
  EXPECT_EQ(endpoints[0].url, "http://mirror.test:5000/v2/some/prefix/library/busybox");
  EXPECT_EQ(endpoints[0].path, "some/prefix/library/busybox");
  EXPECT_EQ(endpoints[0].namespace_query, "ns=docker.io");
  EXPECT_EQ(endpoints[1].namespace_query, "");
  EXPECT_EQ(endpoints[2].host, "registry-1.docker.io");
  EXPECT_EQ(Of(config, "busybox", Purpose::kPush).size(), 1u);
}

TEST(EndpointTest, InsecureFallsBackToPlainHttpOnlyWhereThatIsAllowed) {
  RegistryConfig config;
  config["ex.com"].insecure = true;
  EXPECT_FALSE(Of(config, "ex.com/x")[0].may_fall_back);
  EXPECT_TRUE(Of(config, "ex.com/x")[0].tls.insecure);
  config["ex.com"].http = true;
  const Endpoint both = Of(config, "ex.com/x")[0];
  EXPECT_EQ(both.url, "https://ex.com/v2/x");
  EXPECT_TRUE(both.may_fall_back);
  EXPECT_EQ(WithPlainHttp(both).url, "http://ex.com/v2/x");
  config["ex.com"].insecure = std::nullopt;
  EXPECT_EQ(Of(config, "ex.com/x")[0].url, "http://ex.com/v2/x");
}

TEST(EndpointTest, AnInsecureCallForgetsMirrorsAndAuthorities) {
  RegistryConfig config;
  config["ex.com"].mirrors = {"m.test"};
  config["ex.com"].ca_files = {"/ca"};
  const auto endpoints = Of(config, "ex.com/x", Purpose::kPull, true);
  ASSERT_EQ(endpoints.size(), 1u);
  EXPECT_TRUE(endpoints[0].may_fall_back);
  EXPECT_TRUE(endpoints[0].tls.ca_files.empty());
}

TEST(EndpointTest, TlsFolder) {
  const store::TempDir dir;
  for (const char* name : {"a.crt", "b.crt", "client.cert", "client.key", "notes.txt"})
    std::ofstream(dir.path() + "/" + name) << "x";
  RegistryConfig config;
  config["localhost:1"].tls_config_dirs = {dir.path()};
  const Endpoint endpoint = Of(config, "localhost:1/x")[0];
  EXPECT_EQ(endpoint.url, "https://localhost:1/v2/x") << "a loopback host with TLS set up";
  EXPECT_THAT(endpoint.tls.ca_files,
              testing::ElementsAre(dir.path() + "/a.crt", dir.path() + "/b.crt"));
  EXPECT_EQ(endpoint.tls.key_pairs.at(0).key_file, dir.path() + "/client.key");

  std::ofstream(dir.path() + "/other.cert") << "x";
  const auto broken =
      Endpoints(config, *Reference::ParseFamiliar("localhost:1/x"), Purpose::kPull, false);
  EXPECT_THAT(std::string(broken.status().message()), testing::HasSubstr("has no other.key"));
}

}  // namespace
}  // namespace kiln::daemon
