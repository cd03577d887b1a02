#pragma once

#include <sys/stat.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/source/git_source.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/daemon/session/fake_session.h"
#include "tests/daemon/source/fake_op_context.h"
#include "tests/daemon/source/fake_ref_store.h"
#include "tests/daemon/source/run_git.h"
#include "tests/daemon/source/test_git_server.h"
#include "tests/store/fsutil/test_tree.h"

namespace kiln::daemon {

// Blobs by identifier, delivered as files of the name that is asked for.
class FakeBlobs : public Source {
 public:
  explicit FakeBlobs(store::RefStore* refs) : refs_(refs) {}
  bool Handles(absl::string_view) const override { return true; }
  absl::StatusOr<std::shared_ptr<SourceInstance>> Resolve(const SourceSpec& spec) override {
    asked = spec;
    return std::make_shared<Instance>(this, spec);
  }

  std::map<std::string, std::string> blobs;
  SourceSpec asked;
  int fetched = 0;

 private:
  class Instance : public SourceInstance {
   public:
    Instance(FakeBlobs* owner, SourceSpec spec) : owner_(owner), spec_(std::move(spec)) {}
    absl::StatusOr<SourceKey> Key(solver::OpContext&, int) override {
      return absl::UnimplementedError("key of a fake blob");
    }
    absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext&) override {
      const auto found = owner_->blobs.find(spec_.identifier);
      if (found == owner_->blobs.end()) return absl::NotFoundError("no such blob");
      ++owner_->fetched;
      auto tree = owner_->refs_->New(nullptr, {});
      if (!tree.ok()) return tree.status();
      const absl::Status written = WriteFileAtomic(
          absl::StrCat((*tree)->upper_dir(), "/", spec_.attrs.at("http.filename")), found->second);
      if (!written.ok()) return written;
      return (*tree)->Commit();
    }

   private:
    FakeBlobs* const owner_;
    const SourceSpec spec_;
  };
  store::RefStore* const refs_;
};

// Repositories made by git and served by git.
class GitSourceTest : public testing::Test {
 protected:
  GitSourceTest() { Init("repo"); }

  std::string Git(const std::string& repo, const std::vector<std::string>& args) {
    return RunGit(served_ / repo, args);
  }
  void Init(const std::string& repo) {
    served_.Dir(repo);
    Git(repo, {"init", "-q", "-b", "main"});
  }
  // Commits one file; returns the commit.
  std::string Commit(const std::string& file, const std::string& data,
                     const std::string& repo = "repo") {
    // Times differ, or git takes a file of the same size for unchanged.
    served_.File(repo + "/" + file, data, 0644, ++seconds_);
    Git(repo, {"add", "-A"});
    Git(repo, {"commit", "-q", "-m", "change"});
    return Git(repo, {"rev-parse", "HEAD"});
  }
  std::shared_ptr<SourceInstance> Make(const std::string& fragment = "",
                                       std::map<std::string, std::string> attrs = {},
                                       const std::string& repo = "repo") {
    const std::string remote = server_.Remote(repo);
    attrs.emplace("git.fullurl", remote);
    auto instance = source_.Resolve({absl::StrCat(remote, fragment), std::move(attrs)});
    EXPECT_TRUE(instance.ok()) << instance.status();
    return instance.ok() ? *instance : nullptr;
  }
  absl::StatusOr<store::RefPtr> Get(const std::string& fragment = "",
                                    std::map<std::string, std::string> attrs = {},
                                    const std::string& repo = "repo") {
    FakeOpContext job;
    return Make(fragment, std::move(attrs), repo)->Snapshot(job);
  }
  static bool Has(const store::RefPtr& ref, const std::string& path) {
    struct stat st;
    return ::lstat((FakeRefStore::Dir(ref) + "/" + path).c_str(), &st) == 0;
  }

  int64_t seconds_ = 1000;
  fsutil::TestTree served_, runtime_;
  GitServer server_{served_.path()};
  FakeSessions sessions_;
  FakeRefStore refs_;
  FakeBlobs blobs_{&refs_};
  GitSource source_{&refs_, &sessions_, runtime_.path(), &blobs_};
  FakeOpContext job_;
};

}  // namespace kiln::daemon
