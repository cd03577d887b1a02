// The values of RUN --mount (dockerfile.md 2.5).
#include "daemon/frontend/dockerfile/syntax/mount.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

namespace kiln::daemon::dockerfile {
namespace {

// $x stands for "value", $type for "cache".
absl::StatusOr<std::string> Expand(absl::string_view word) {
  if (word == "$bad") return absl::InvalidArgumentError("bad word");
  return absl::StrReplaceAll(word, {{"$x", "value"}, {"$type", "cache"}});
}

Mount MustParse(absl::string_view flag) {
  auto mount = ParseMount(flag, Expand);
  EXPECT_TRUE(mount.ok()) << flag << ": " << mount.status();
  return mount.value_or(Mount{});
}

TEST(Mount, Defaults) {
  const Mount bind = MustParse("target=/a");
  EXPECT_EQ(bind.type, MountType::kBind);
  EXPECT_EQ(bind.target, "/a");
  EXPECT_TRUE(bind.read_only);
  EXPECT_FALSE(bind.sharing.has_value());
  EXPECT_FALSE(bind.env.has_value());
  EXPECT_FALSE(MustParse("type=cache").read_only);
  EXPECT_FALSE(MustParse("type=tmpfs").read_only);
  EXPECT_TRUE(MustParse("type=secret,id=a").read_only);
  EXPECT_TRUE(MustParse("type=ssh").read_only);
}

TEST(Mount, EveryKey) {
  const Mount cache = MustParse(
      "TYPE=Cache,From=base,src=/s,dst=/"
      "t,id=i,sharing=LOCKED,mode=0750,uid=1000,gid=4294967295,ro");
  EXPECT_EQ(cache.type, MountType::kCache);
  EXPECT_EQ(cache.from, "base");
  EXPECT_EQ(cache.source, "/s");
  EXPECT_EQ(cache.target, "/t");
  EXPECT_EQ(cache.id, "i");
  EXPECT_EQ(cache.sharing, CacheSharing::kLocked);
  EXPECT_EQ(cache.mode, 0750u);
  EXPECT_EQ(cache.uid, 1000u);
  EXPECT_EQ(cache.gid, 4294967295u);
  EXPECT_TRUE(cache.read_only);
  const Mount secret = MustParse("type=secret,source=tok,destination=/t,env=,required");
  EXPECT_EQ(secret.source, "tok");
  EXPECT_EQ(secret.target, "/t");
  EXPECT_EQ(secret.env, "");
  EXPECT_TRUE(secret.required);
  EXPECT_FALSE(MustParse("type=ssh,required=false").required);
  EXPECT_EQ(MustParse("type=tmpfs,size=128m").size_bytes, 128 << 20);  // scenario 90
  EXPECT_EQ(MustParse("type=cache,sharing=private").sharing, CacheSharing::kPrivate);
}

TEST(Mount, ReadOnlyAndBack) {
  EXPECT_FALSE(MustParse("target=/a,rw").read_only);
  EXPECT_FALSE(MustParse("target=/a,readwrite=true").read_only);
  EXPECT_TRUE(MustParse("target=/a,readwrite=0").read_only);
  EXPECT_FALSE(MustParse("target=/a,readonly=F").read_only);
  EXPECT_TRUE(MustParse("type=cache,readonly=1").read_only);
  EXPECT_TRUE(MustParse("type=cache,rw,ro").read_only);
}

TEST(Mount, QuotedFields) {
  EXPECT_EQ(MustParse("\"target=/a,b\",rw").target, "/a,b");
  EXPECT_EQ(MustParse("\"target=/a\"\"b\"").target, "/a\"b");
}

// Scenario 86.
TEST(Mount, S86ValuesAreExpanded) {
  const Mount mount = MustParse("type=$type,target=/$x,id=$x-$x");
  EXPECT_EQ(mount.type, MountType::kCache);
  EXPECT_EQ(mount.target, "/value");
  EXPECT_EQ(mount.id, "value-value");
  EXPECT_EQ(ParseMount("target=$bad", Expand).status(), absl::InvalidArgumentError("bad word"));
}

struct ErrorCase {
  const char* flag;
  const char* want;
};

TEST(Mount, Errors) {
  for (const auto& [flag, want] : std::initializer_list<ErrorCase>{
           {"", "failed to parse csv mounts: EOF"},
           {"type=tmp", "unsupported mount type \"tmp\" (did you mean tmpfs?)"},  // scenario 82
           {"type=volume", "unsupported mount type \"volume\""},
           {"typ=bind", "unexpected key 'typ' in 'typ=bind' (did you mean type?)"},
           {"nosuchkey=1", "unexpected key 'nosuchkey' in 'nosuchkey=1'"},
           {"=x", "unexpected key '' in '=x' (did you mean id?)"},
           {"target", "invalid field 'target' must be a key=value pair"},
           {"target=/a,", "invalid field '' must be a key=value pair"},
           {"required", "unexpected key 'required' for mount type 'bind'"},
           {"required=true", "unexpected key 'required' for mount type 'bind'"},
           // Options count from left to right.
           {"required,type=secret", "unexpected key 'required' for mount type 'bind'"},
           {"size=1m,type=tmpfs", "unexpected key 'size' for mount type 'bind'"},
           {"type=secret,id=a,required=x", "invalid value for required: x"},
           {"ro=x", "invalid value for ro: x"},
           {"readwrite=yes", "invalid value for readwrite: yes"},
           {"type=tmpfs,size=x", "invalid value for size: x"},
           {"type=tmpfs,size=1tb5", "invalid value for size: 1tb5"},
           {"type=tmpfs,size=-1", "invalid value for size: -1"},
           {"type=cache,sharing=share",
            "unsupported sharing value \"share\" (did you mean shared?)"},
           {"type=cache,mode=8", "invalid value 8 for mode"},
           {"type=cache,uid=-1", "invalid value -1 for uid"},
           {"type=cache,gid=4294967296", "invalid value 4294967296 for gid"},
           {"mode=1", "mode not allowed for \"bind\" type mounts"},
           {"type=tmpfs,uid=1", "uid not allowed for \"tmpfs\" type mounts"},
           {"gid=1", "gid not allowed for \"bind\" type mounts"},
           {"type=secret,id=a,from=b", "secret mount should not have a from"},
           {"type=secret,id=a,sharing=shared", "secret mount should not define sharing"},
           {"type=secret", "invalid secret mount. one of source, target required"},
           {"type=secret,source=a,id=b", "both source and id can't be set"},
           {"sharing=shared", "invalid cache sharing set for bind mount"},
       }) {
    EXPECT_EQ(ParseMount(flag, Expand).status(), absl::InvalidArgumentError(want)) << flag;
  }
}

TEST(MountFrom, OnlyTheSource) {
  EXPECT_EQ(*ParseMountFrom("type=nonsense,from=a,x,FROM=b"), "b");
  EXPECT_EQ(*ParseMountFrom("target=$x"), "");
  EXPECT_EQ(*ParseMountFrom("from=a$"), "a$");
  EXPECT_EQ(ParseMountFrom("from=a$b").status(),
            absl::InvalidArgumentError(
                "'from' doesn't support variable expansion, define alias stage instead"));
}

}  // namespace
}  // namespace kiln::daemon::dockerfile
