#include "daemon/remotecache/cache_origins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "daemon/registry/reference.h"

namespace kiln::daemon {
namespace {

using testing::HasSubstr;

// A place with one blob, or an error for all that is asked.
class OneBlob : public CacheObjects {
 public:
  OneBlob(std::string place, std::string bytes, absl::Status status = absl::OkStatus())
      : place_(std::move(place)), bytes_(std::move(bytes)), status_(std::move(status)) {}
  const std::string& place() const override { return place_; }
  absl::StatusOr<bool> HasBlob(const Digest&, const CancelToken&) override { return true; }
  absl::StatusOr<bool> KeepBlob(const Digest&, const CancelToken&) override { return true; }
  absl::Status PutBlob(const CacheObject&, const CancelToken&) override { return status_; }
  absl::Status GetBlob(const Digest&, const CancelToken&,
                       const std::function<absl::Status(absl::string_view)>& sink) override {
    if (!status_.ok()) return status_;
    for (size_t at = 0; at < bytes_.size(); at += 3)
      if (absl::Status status = sink(absl::string_view(bytes_).substr(at, 3)); !status.ok())
        return status;
    return absl::OkStatus();
  }
  absl::Status PutConfig(absl::string_view, const CancelToken&) override { return status_; }
  absl::StatusOr<std::vector<std::string>> GetConfigs(int64_t, const CancelToken&) override {
    return std::vector<std::string>();
  }

 private:
  const std::string place_, bytes_;
  const absl::Status status_;
};

class Elsewhere : public store::LayerFetcher {
 public:
  absl::Status Fetch(const store::LayerBlob& blob, const CancelToken&,
                     const std::function<absl::Status(absl::string_view)>& sink) override {
    return sink("from " + blob.origin);
  }
};

class CacheOriginsTest : public testing::Test {
 protected:
  std::string Fetch(const std::string& origin) {
    store::LayerBlob blob;
    blob.descriptor.digest = Digest::Of("x");
    blob.origin = origin;
    std::string out;
    const absl::Status status = origins_.Fetch(blob, {}, [&](absl::string_view data) {
      absl::StrAppend(&out, data);
      return absl::OkStatus();
    });
    return status.ok() ? out : std::string(status.message());
  }
  static constexpr char kPlace[] = "s3:https://host/bucket/blobs/";
  Elsewhere elsewhere_;
  CacheOrigins origins_{&elsewhere_};
};

TEST_F(CacheOriginsTest, APlaceIsReadWhileABuildHasItOpen) {
  EXPECT_FALSE(Reference::ParseFamiliar(kPlace).ok()) << "no repository is meant";
  EXPECT_EQ(Fetch("docker.io/library/busybox"), "from docker.io/library/busybox");
  EXPECT_THAT(Fetch(kPlace), HasSubstr("import it again"));
  auto build = std::make_shared<OneBlob>(kPlace, "0123456789");
  origins_.Note(build);
  EXPECT_EQ(Fetch(kPlace), "0123456789");
  EXPECT_THAT(Fetch("s3:https://elsewhere/"), HasSubstr("import it again"));
  build.reset();
  EXPECT_THAT(Fetch(kPlace), HasSubstr("import it again"));
}

TEST_F(CacheOriginsTest, WhomOneBuildMayNotAskAnotherMay) {
  const auto first = std::make_shared<OneBlob>(kPlace, "bytes");
  const auto second = std::make_shared<OneBlob>(kPlace, "", absl::PermissionDeniedError("not you"));
  origins_.Note(second);
  EXPECT_EQ(Fetch(kPlace), "not you");
  origins_.Note(first);
  origins_.Note(second);
  EXPECT_EQ(Fetch(kPlace), "bytes");
}

}  // namespace
}  // namespace kiln::daemon
