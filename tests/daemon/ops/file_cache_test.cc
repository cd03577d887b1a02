// How file ops take part in caching: selectors and content keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/daemon/ops/op_fixture.h"

namespace kiln::daemon {
namespace {

using store::TreeWriter;
using ::testing::HasSubstr;

class FileCaching : public OpsTest {
 protected:
  // Copies from input 1 onto input 0, in order.
  static pb::Op Copies(const std::vector<std::pair<std::string, std::string>>& copies) {
    pb::Op op = OpWith(2);
    for (size_t i = 0; i < copies.size(); ++i) {
      const int64_t input = i == 0 ? 0 : static_cast<int64_t>(2 + i - 1);
      const int64_t output = i + 1 == copies.size() ? 0 : -1;
      Copy(Act(&op, input, 1, output), copies[i].first, copies[i].second);
    }
    return op;
  }
  RefPtr TwoDirs() {
    return Tree([](TreeWriter& w) {
      for (const char* dir : {"/a", "/b"}) {
        store::Must(w.MakeDir(dir, {}));
        store::Must(w.WriteFile(absl::StrCat(dir, "/x"), dir, {}));
      }
    });
  }
};

TEST_F(FileCaching, OnlySourcesHaveContentKeys) {
  const solver::CacheMap map = MapOf(Copies({{"/a/x", "/x"}}));
  EXPECT_FALSE(map.inputs[0].content_key);
  EXPECT_EQ(map.inputs[0].selector, "");
  EXPECT_TRUE(map.inputs[1].content_key);
  EXPECT_EQ(map.inputs[1].selector, Digest::Of("/a/x").ToString());
  EXPECT_TRUE(map.final);
}

TEST_F(FileCaching, OneSelectorIsAsBuildKitHasIt) {
  const RefPtr tree = TwoDirs();
  auto op = store::Must(Resolve(Copies({{"/a/x", "/x"}})));
  const Digest sum = store::Must(store_->Checksum(tree, "/a/x", {}, {}));
  EXPECT_EQ(store::Must(op->ContentDigest(context_, 1, MakeResult(tree))),
            Digest::Of(sum.ToString()).ToString());
}

TEST_F(FileCaching, TheDirectoryOfTheSourceDoesNotCountButItsNameDoes) {
  const RefPtr one = Tree([](TreeWriter& w) { store::Must(w.WriteFile("/f", "same", {})); });
  const RefPtr two = Tree([](TreeWriter& w) {
    store::Must(w.MakeDir("/deep", {}));
    store::Must(w.WriteFile("/deep/f", "same", {}));
  });
  EXPECT_EQ(ContentKeyOf(Copies({{"/f", "/x"}}), 1, one),
            ContentKeyOf(Copies({{"/deep/f", "/x"}}), 1, two));
  const RefPtr renamed = Tree([](TreeWriter& w) { store::Must(w.WriteFile("/g", "same", {})); });
  EXPECT_NE(ContentKeyOf(Copies({{"/f", "/x"}}), 1, one),
            ContentKeyOf(Copies({{"/g", "/x"}}), 1, renamed));
}

// Two sources of one input, swapped or replaced, over one tree.
TEST_F(FileCaching, Llb6_50_EachSelectorIsBoundToItsAction) {
  const RefPtr tree = TwoDirs();
  const pb::Op straight = Copies({{"/a/x", "/1"}, {"/b/x", "/2"}});
  const pb::Op swapped = Copies({{"/b/x", "/1"}, {"/a/x", "/2"}});
  EXPECT_NE(ContentKeyOf(straight, 1, tree), ContentKeyOf(swapped, 1, tree));
  EXPECT_NE(MapOf(straight).inputs[1].selector, MapOf(swapped).inputs[1].selector);
  const RefPtr nested = Tree([](TreeWriter& w) {
    for (const char* dir : {"/a", "/a/b", "/a/c"}) store::Must(w.MakeDir(dir, {}));
    store::Must(w.WriteFile("/a/b/x", "b", {}));
    store::Must(w.WriteFile("/a/c/x", "c", {}));
  });
  EXPECT_NE(ContentKeyOf(Copies({{"/a", "/1"}, {"/a/b/x", "/2"}}), 1, nested),
            ContentKeyOf(Copies({{"/a", "/1"}, {"/a/c/x", "/2"}}), 1, nested));
}

TEST_F(FileCaching, Llb6_51_SourceThatIsAlsoTheBase) {
  const auto op = [](const std::string& src) {
    pb::Op out = OpWith(1);
    Copy(Act(&out, 0, 0, 0), src, "/y");
    return out;
  };
  const solver::CacheMap map = MapOf(op("/a/x"));
  EXPECT_EQ(map.inputs[0].selector, "");
  EXPECT_FALSE(map.inputs[0].content_key);
  EXPECT_NE(map.op_digest, MapOf(op("/b/x")).op_digest);
}

TEST_F(FileCaching, Llb6_53_FilesLeftOutDoNotCount) {
  pb::Op op = Copies({{"/", "/d"}});
  op.mutable_file()->mutable_actions(0)->mutable_copy()->add_include_patterns("*.c");
  const auto tree = [&](const std::string& header, uint32_t mode) {
    return Tree([&](TreeWriter& w) {
      store::Must(w.WriteFile("/a.c", "a", {.mode = mode}));
      store::Must(w.WriteFile("/a.h", header, {}));
    });
  };
  const std::string key = ContentKeyOf(op, 1, tree("one", 0644));
  EXPECT_EQ(ContentKeyOf(op, 1, tree("two", 0644)), key);
  EXPECT_NE(ContentKeyOf(op, 1, tree("one", 0600)), key);
}

TEST_F(FileCaching, Llb6_54_TimesDoNotCount) {
  const auto tree = [&](int64_t time) {
    return Tree([&](TreeWriter& w) {
      store::Must(w.WriteFile("/f", "x", {.mtime = absl::FromUnixSeconds(time)}));
    });
  };
  const pb::Op op = Copies({{"/f", "/f"}});
  EXPECT_EQ(ContentKeyOf(op, 1, tree(1)), ContentKeyOf(op, 1, tree(2)));
}

TEST_F(FileCaching, Llb6_55_UsersByNameReadPasswd) {
  const auto tree = [&](const std::string& passwd) {
    return Tree([&](TreeWriter& w) {
      store::Must(w.MakeDir("/etc", {}));
      store::Must(w.WriteFile("/etc/passwd", passwd, {}));
      store::Must(w.WriteFile("/f", "x", {}));
    });
  };
  pb::Op by_id = Copies({{"/f", "/f"}});
  by_id.mutable_file()
      ->mutable_actions(0)
      ->mutable_copy()
      ->mutable_owner()
      ->mutable_user()
      ->set_byid(1);
  EXPECT_EQ(ContentKeyOf(by_id, 1, tree("a:x:1:1")), ContentKeyOf(by_id, 1, tree("a:x:2:2")));
  pb::Op by_name = Copies({{"/f", "/f"}});
  pb::NamedUserOpt* name = by_name.mutable_file()
                               ->mutable_actions(0)
                               ->mutable_copy()
                               ->mutable_owner()
                               ->mutable_user()
                               ->mutable_byname();
  name->set_name("a");
  name->set_input(1);
  EXPECT_NE(ContentKeyOf(by_name, 1, tree("a:x:1:1")), ContentKeyOf(by_name, 1, tree("a:x:2:2")));
  // The owner of a symlink counts as well.
  pb::Op link = OpWith(1);
  Symlink(Act(&link, -1, -1, 0), "x", "/l");
  link.mutable_file()
      ->mutable_actions(0)
      ->mutable_symlink()
      ->mutable_owner()
      ->mutable_user()
      ->mutable_byname()
      ->set_name("a");
  EXPECT_NE(ContentKeyOf(link, 0, tree("a:x:1:1")), ContentKeyOf(link, 0, tree("a:x:2:2")));
}

TEST_F(FileCaching, Llb6_30_MissingSourceNamesThePath) {
  const std::string answer = ContentKeyOf(Copies({{"/none", "/f"}}), 1, TwoDirs());
  EXPECT_THAT(answer, HasSubstr("NOT_FOUND: failed to calculate checksum of ref"));
  EXPECT_THAT(answer, HasSubstr("\"/none\": not found"));
}

}  // namespace
}  // namespace kiln::daemon
