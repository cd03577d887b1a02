// What layers are made of (images-and-cache.md 2.2, 2.3), and that they give the tree back.
#include "store/layer/layer_tar.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <random>

#include "tests/store/layer/layer_fixture.h"
#include "tests/store/layer/tree_listing.h"

namespace kiln::store {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// Trees changed through a mount, as a step does it.
class LayerTarTest : public LayerStoreTest {
 protected:
  RefPtr Step(const RefPtr& parent, const std::function<void(const std::string& root)>& work) {
    auto tree = Must(store_->New(parent, {}));
    {
      auto mount = Must(store_->Mount(*tree));
      work(mount->path());
      Must(mount->Close());
    }
    RefPtr ref = Must(tree->Commit());
    Must(store_->SetRetained(ref->id()));
    return ref;
  }
  // The entries of the last layer: "type name" with what matters of it.
  std::vector<std::string> Entries(const RefPtr& ref) {
    const std::vector<LayerBlob> layers = LayersOf(ref);
    if (layers.empty()) return {};
    last_tar_ = Must(Decompress(Stored(layers.back().descriptor.digest)));
    StringStream in(last_tar_);
    TarReader tar(&in);
    std::vector<std::string> out;
    entries_.clear();
    for (TarEntry entry; Must(tar.Next(&entry)); entries_.push_back(entry))
      out.push_back(absl::StrCat(std::string(1, static_cast<char>(entry.type)), " ", entry.name,
                                 entry.link.empty() ? "" : " -> ", entry.link));
    return out;
  }
  static void Run(const std::string& command) {
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }

  std::string last_tar_;
  std::vector<TarEntry> entries_;
};
FOR_EACH_DRIVER(LayerTarTest);

TEST_P(LayerTarTest, OneWalkInOrderWithParentsOnce) {
  const RefPtr ref = Step(nullptr, [](const std::string& root) {
    Run("cd " + root + " && mkdir -p b/d a && touch b/x b/d/y a/z c b.file");
  });
  EXPECT_THAT(Entries(ref), ElementsAre("5 a/", "0 a/z", "5 b/", "5 b/d/", "0 b/d/y", "0 b/x",
                                        "0 b.file", "0 c"));
}

TEST_P(LayerTarTest, OnlyWhatChangedWithTheUpperParents) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root + " && mkdir -p d/e other && echo 1 > d/e/old && echo 2 > other/x");
  });
  const RefPtr step = Step(base, [](const std::string& root) {
    Run("cd " + root + " && chmod 711 d && echo 3 > d/e/new");
  });
  EXPECT_THAT(Entries(step), ElementsAre("5 d/", "5 d/e/", "0 d/e/new"));
  EXPECT_EQ(entries_[0].mode, 0711u);
}

TEST_P(LayerTarTest, L4_RemovedReplacedAndRenamed) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root +
        " && mkdir -p todir tofile ren sub && echo 1 > gone && echo 2 > tofile/x && echo 3 > f"
        " && echo 4 > ren/a && echo 5 > sub/gone && echo 6 > sub/stays");
  });
  const RefPtr step = Step(base, [](const std::string& root) {
    Run("cd " + root +
        " && rm gone sub/gone && rm -r tofile && echo 7 > tofile && rm f && mkdir f"
        " && echo 8 > f/in && mv ren moved");
  });
  EXPECT_THAT(Entries(step), ElementsAre("5 f/", "0 f/in", "0 .wh.gone", "5 moved/", "0 moved/a",
                                         "0 .wh.ren", "5 sub/", "0 sub/.wh.gone", "0 tofile"));
  EXPECT_EQ(entries_[2].mode, 0u);
  EXPECT_EQ(entries_[2].mtime.tv_sec, 0);
  // And back.
  const std::vector<LayerBlob> layers = LayersOf(step);
  EXPECT_EQ(ShowWhole(Must(Pull(Pull(nullptr, LayersOf(base)[0]), layers[1])->Materialize({}))),
            ShowWhole(Must(step->Materialize({}))));
}

TEST_P(LayerTarTest, ARecreatedDirectoryHidesTheOldOne) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root +
        " && mkdir -p d/deep && echo 1 > d/a && echo 2 > d/same && touch -d @5 "
        "d/same && echo 3 > d/deep/x");
  });
  const RefPtr step = Step(base, [](const std::string& root) {
    Run("cd " + root +
        " && rm -r d && mkdir -p d/deep && echo 2 > d/same && touch -d @5 d/same && "
        "echo 4 > d/deep/y");
  });
  EXPECT_THAT(Entries(step),
              ElementsAre("5 d/", "0 d/.wh.a", "5 d/deep/", "0 d/deep/.wh.x", "0 d/deep/y"));
}

TEST_P(LayerTarTest, CopiedUpButEqualIsNoChange) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root + " && mkdir d && echo 1 > d/f && echo 1 > d/g && chown 5 d/g");
  });
  const RefPtr same = Step(base, [](const std::string& root) {
    // Opened for writing: overlayfs copies it up.
    Run("cd " + root + " && : >> d/f && chmod u+s d/f && chmod u-s d/f && chown 5 d/g");
  });
  EXPECT_THAT(LayersOf(same), SizeIs(1));
}

TEST_P(LayerTarTest, L5_HardlinksWithinALayer) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root + " && mkdir d && echo 1 > old && echo 2 > a && ln a d/b && ln a c");
  });
  EXPECT_THAT(Entries(base), ElementsAre("0 a", "1 c -> a", "5 d/", "1 d/b -> a", "0 old"));
}

TEST_P(LayerTarTest, L5_ALinkToAnOldFileBringsItAlong) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root + " && mkdir d && echo 1 > d/old");
  });
  const RefPtr step = Step(base, [](const std::string& root) {
    Run("cd " + root + " && ln d/old z && mkdir new && ln d/old new/y");
  });
  // The old name did not change, but is the same file.
  EXPECT_THAT(Entries(step),
              ElementsAre("5 new/", "0 new/y", "5 d/", "1 d/old -> new/y", "1 z -> new/y"));
}

TEST_P(LayerTarTest, L6_SpecialFilesAttributesAndTimes) {
  const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  const RefPtr ref = Step(nullptr, [&](const std::string& root) {
    Run("cd " + root +
        " && mknod tty c 4 64 && mkfifo pipe && ln -s /nowhere link && echo 1 > suid && chown 7:8 "
        "suid && chmod 4755 suid && touch -d @1000000000.75 suid");
    ASSERT_EQ(::setxattr((root + "/suid").c_str(), "security.capability", capability.data(),
                         capability.size(), 0),
              0);
    ASSERT_EQ(::setxattr((root + "/suid").c_str(), "user.note", "x", 1, 0), 0);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    Run("mkdir " + root + "/sockets");
    const std::string path = root + "/sockets/s";
    ASSERT_LT(path.size(), sizeof address.sun_path);
    path.copy(address.sun_path, path.size());
    ASSERT_EQ(::bind(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof address), 0);
    ::close(fd);
  });
  EXPECT_THAT(Entries(ref),
              ElementsAre("2 link -> /nowhere", "6 pipe", "5 sockets/", "0 suid", "3 tty"));
  EXPECT_EQ(entries_[3].mode, 04755u);
  EXPECT_EQ(entries_[3].uid, 7u);
  EXPECT_EQ(entries_[3].mtime.tv_sec, 1000000000);
  EXPECT_EQ(entries_[3].mtime.tv_nsec, 0);
  EXPECT_THAT(entries_[3].xattrs, ElementsAre(std::make_pair("security.capability", capability)));
  EXPECT_EQ(entries_[4].device, makedev(4, 64));
}

TEST_P(LayerTarTest, TimesAreCutToTheEpochWhenAsked) {
  const RefPtr base = Step(nullptr, [](const std::string& root) {
    Run("cd " + root + " && echo 1 > young && echo 2 > old && touch -d @5 old");
  });
  const RefPtr step = Step(base, [](const std::string& root) { Run("echo 3 > " + root + "/new"); });
  const absl::Time epoch = absl::FromUnixSeconds(1400000000);
  const std::vector<LayerBlob> plain = LayersOf(step);
  const std::vector<LayerBlob> cut = LayersOf(step, {.rewrite_timestamp = epoch});
  ASSERT_THAT(cut, SizeIs(2));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_NE(cut[i].diff_id, plain[i].diff_id);
    const std::string tar = Must(Decompress(Stored(cut[i].descriptor.digest)));
    EXPECT_EQ(Digest::Of(tar), cut[i].diff_id);
    StringStream in(tar);
    TarReader reader(&in);
    for (TarEntry entry; Must(reader.Next(&entry));)
      EXPECT_EQ(entry.mtime.tv_sec, entry.name == "old" ? 5 : 1400000000) << entry.name;
  }
  // From a layer on only; and the plain ones stay what they are.
  const std::vector<LayerBlob> top =
      LayersOf(step, {.rewrite_timestamp = epoch, .rewrite_from = 1});
  EXPECT_EQ(top[0].descriptor, plain[0].descriptor);
  EXPECT_EQ(top[1].descriptor, cut[1].descriptor);
  EXPECT_EQ(LayersOf(step)[1].descriptor, plain[1].descriptor);
}

// A random tree, changed at random, comes back the same from its layers, for either driver, and
// the two drivers make the same layers.
TEST_P(LayerTarTest, L4_RandomStepsComeBack) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 dice(seed);
  int links = 0;
  for (int round = 0; round < 4 && !HasFailure(); ++round) {
    RefPtr ref;
    for (int step = 0; step < 4; ++step) {
      ref = Step(ref, [&](const std::string& root) {
        for (int i = 0; i < 25; ++i) {
          std::string path = root;
          for (int depth = static_cast<int>(dice() % 3); depth >= 0; --depth)
            path += std::string("/") + "abcd"[dice() % 4];
          std::error_code ignored;
          const auto parent = std::filesystem::path(path).parent_path();
          switch (dice() % 8) {
            case 0:
            case 1:
            case 2:
              std::filesystem::create_directories(parent, ignored);
              std::ofstream(path) << dice() % 5;
              if (dice() % 2 == 0) {
                const struct timespec times[2] = {{100, 0}, {100, 0}};
                ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
              }
              break;
            case 3:
              std::filesystem::create_directories(path, ignored);
              break;
            case 4:
              std::filesystem::remove_all(path, ignored);
              break;
            case 5:
              // Made again within a second with the same target it is the one that was there, for
              // layers, and a name of what that was linked to.
              ::symlink(absl::StrCat("target", ++links).c_str(), path.c_str());
              break;
            case 6:
              ::link((root + "/a").c_str(), path.c_str());
              break;
            case 7:
              if (::lchown(path.c_str(), dice() % 3, 0) == 0 && dice() % 2 == 0)
                ::rename(path.c_str(), (root + "/c").c_str());
              break;
          }
        }
      });
    }
    RefPtr back;
    for (const LayerBlob& layer : LayersOf(ref)) {
      LayerBlob other = layer;
      other.description = "pulled";
      // Under a number of its own, not the record that it came from.
      back = Must(layers_->AddLayer(back, other, {}));
      EXPECT_NE(back->id(), ref->id());
    }
    EXPECT_EQ(ShowWhole(Must(back->Materialize({}))), ShowWhole(Must(ref->Materialize({}))));
  }
}

TEST_P(LayerTarTest, EstargzUnpacksToTheSameTree) {
  const RefPtr ref = Step(nullptr, [](const std::string& root) {
    Run("cd " + root +
        " && mkdir d && echo hello > d/a && head -c 9000000 /dev/zero > big && "
        "touch empty && ln -s a link");
  });
  const std::vector<LayerBlob> layers =
      LayersOf(ref, {.compression = Compression::kEstargz, .force = true});
  ASSERT_THAT(layers, SizeIs(1));
  const Descriptor& blob = layers[0].descriptor;
  const std::string stored = Stored(blob.digest);
  const std::string plain = Must(Decompress(stored));
  EXPECT_EQ(Digest::Of(plain), layers[0].diff_id);
  EXPECT_EQ(blob.annotations.at(kUncompressedSizeAnnotation), absl::StrCat(plain.size()));
  // The footer leads to the table, the table to the pieces.
  const std::string footer = stored.substr(stored.size() - 51);
  ASSERT_EQ(footer.substr(32, 6), "STARGZ");
  const size_t toc_at = std::stoul(footer.substr(16, 16), nullptr, 16);
  const std::string toc_tar = Must(Decompress(stored.substr(toc_at, stored.size() - 51 - toc_at)));
  const std::string toc = toc_tar.substr(512, toc_tar.find('\0', 512) - 512);
  EXPECT_EQ(blob.annotations.at(kTocDigestAnnotation), Digest::Of(toc).ToString());
  EXPECT_THAT(toc, HasSubstr(R"("name":"d/a","type":"reg","size":6)"));
  EXPECT_THAT(toc, HasSubstr(R"("chunkOffset":8388608)"));
  const size_t at = std::stoul(toc.substr(toc.find("\"offset\":", toc.find("d/a")) + 9));
  EXPECT_EQ(Must(Decompress(stored.substr(at))).substr(0, 6), "hello\n");
  // The same tree, under the digest that an image would name.
  const RefPtr back = Pull(nullptr, layers[0]);
  EXPECT_EQ(ShowWhole(Must(back->Materialize({}))), ShowWhole(Must(ref->Materialize({}))));
  EXPECT_EQ(blob,
            LayersOf(ref, {.compression = Compression::kEstargz, .force = true})[0].descriptor);
}

}  // namespace
}  // namespace kiln::store
