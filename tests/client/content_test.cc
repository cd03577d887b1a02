// The content store that a client offers: what a daemon may do with it, over a real session.
#include <gmock/gmock.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/grpc_status.h"
#include "client/session/oci_index.h"
#include "client/session/oci_layout.h"
#include "client/solve/solve.h"
#include "proto/containerd/content.grpc.pb.h"
#include "proto/digest.h"
#include "store/base/fd.h"
#include "tests/client/fake_daemon.h"
#include "tests/store/temp_dir.h"

namespace kiln::client {
namespace {

namespace api = containerd::services::content::v1;
using testing::HasSubstr;
using testing::IsEmpty;
using Channel = std::shared_ptr<grpc::Channel>;

// The daemon's end, for one store.
class Store {
 public:
  Store(const Channel& channel, std::string id)
      : stub_(api::Content::NewStub(channel)), id_(std::move(id)) {}

  absl::StatusOr<int64_t> Size(const std::string& digest) {
    const auto context = Context();
    api::InfoRequest request;
    request.set_digest(digest);
    api::InfoResponse response;
    const absl::Status status = FromGrpc(stub_->Info(context.get(), request, &response));
    if (!status.ok()) return status;
    return response.info().size();
  }

  absl::StatusOr<std::string> Read(const std::string& digest, int64_t offset, int64_t size) {
    const auto context = Context();
    api::ReadContentRequest request;
    request.set_digest(digest);
    request.set_offset(offset);
    request.set_size(size);
    const auto stream = stub_->Read(context.get(), request);
    std::string data;
    api::ReadContentResponse response;
    while (stream->Read(&response)) {
      EXPECT_EQ(response.offset(), offset + static_cast<int64_t>(data.size()));
      data += response.data();
    }
    const absl::Status status = FromGrpc(stream->Finish());
    if (!status.ok()) return status;
    return data;
  }

  // STAT, the pieces, COMMIT; the digest of the answer.
  absl::StatusOr<std::string> Write(const std::vector<std::string>& pieces, int64_t total,
                                    const std::string& expected, int64_t shift = 0) {
    const auto context = Context();
    const auto stream = stub_->Write(context.get());
    api::WriteContentRequest request;
    request.set_action(api::STAT);
    request.set_ref("ref");
    request.set_total(total);
    request.set_expected(expected);
    api::WriteContentResponse response;
    bool open = stream->Write(request) && stream->Read(&response);
    request.Clear();
    int64_t offset = 0;
    for (const std::string& piece : pieces) {
      request.set_action(api::WRITE);
      request.set_offset(offset == 0 ? 0 : offset + shift);
      request.set_data(piece);
      offset += static_cast<int64_t>(piece.size());
      open = open && stream->Write(request) && stream->Read(&response);
      if (open) {
        EXPECT_EQ(response.offset(), offset);
      }
    }
    request.Clear();
    request.set_action(api::COMMIT);
    request.set_offset(offset);
    request.set_total(total);
    request.set_expected(expected);
    open = open && stream->Write(request) && stream->Read(&response);
    stream->WritesDone();
    const absl::Status status = FromGrpc(stream->Finish());
    if (!status.ok()) return status;
    return response.digest();
  }

  // Begins, and goes away.
  void GiveUp(const std::string& data) {
    const auto context = Context();
    const auto stream = stub_->Write(context.get());
    api::WriteContentRequest request;
    request.set_action(api::WRITE);
    request.set_ref("ref");
    request.set_data(data);
    api::WriteContentResponse response;
    EXPECT_TRUE(stream->Write(request) && stream->Read(&response));
    stream->WritesDone();
    EXPECT_TRUE(stream->Finish().ok());
  }

 private:
  std::unique_ptr<grpc::ClientContext> Context() const {
    auto context = std::make_unique<grpc::ClientContext>();
    if (!id_.empty()) context->AddMetadata("buildkit-attachable-store-id", id_);
    return context;
  }

  const std::unique_ptr<api::Content::Stub> stub_;
  const std::string id_;
};

class ContentTest : public testing::Test {
 protected:
  // Runs `use` on the daemon's end of a build's session.
  absl::Status Build(const std::function<void(const Channel&)>& use,
                     std::map<std::string, std::string> response = {}) {
    FakeDaemon::Script script;
    script.build = [&use](const Channel& channel) {
      use(channel);
      return absl::OkStatus();
    };
    script.exporter_response = std::move(response);
    FakeDaemon daemon(std::move(script));
    ConnectOptions connect;
    connect.address = daemon.address();
    const auto connection = Connection::Open(connect);
    if (!connection.ok()) return connection.status();
    const absl::Status status = Solve(**connection, options_, nullptr).status();
    solve_request_ = daemon.solve_request;
    return status;
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }
  // A blob in a layout, and the index entry "latest" for it.
  std::string Put(const std::string& folder, const std::string& data) {
    auto writer = OciLayout(folder).Write();
    EXPECT_TRUE(writer.ok() && (*writer)->Append(data).ok());
    const auto digest = (*writer)->Commit(0, "");
    EXPECT_TRUE(digest.ok()) << digest.status();
    const std::string descriptor = absl::StrCat(R"({"digest":")", digest->ToString(), R"("})");
    EXPECT_TRUE(OciIndex(folder).Put(descriptor, {{"latest", true}}).ok());
    return digest->ToString();
  }

  store::TempDir dir_;
  SolveOptions options_;
  moby::buildkit::v1::SolveRequest solve_request_;
};

TEST_F(ContentTest, ReadsOciLayouts) {
  std::string data(3 << 20, 'x');
  data += "end";
  const std::string digest = Put(Path("layout"), data);
  options_.oci_layouts["base"] = Path("layout");
  const absl::Status status = Build([&](const Channel& channel) {
    Store store(channel, "oci:base");
    EXPECT_EQ(*store.Size(digest), static_cast<int64_t>(data.size()));
    EXPECT_EQ(*store.Read(digest, 0, 0), data);
    EXPECT_EQ(*store.Read(digest, 3 << 20, 2), "en");
    EXPECT_EQ(*store.Read(digest, static_cast<int64_t>(data.size()), 0), "");
    EXPECT_TRUE(absl::IsOutOfRange(store.Read(digest, 4 << 20, 0).status()));
    EXPECT_TRUE(absl::IsOutOfRange(store.Read(digest, -1, 0).status()));
    const std::string other = Digest::Of("other").ToString();
    EXPECT_TRUE(absl::IsNotFound(store.Size(other).status()));
    EXPECT_TRUE(absl::IsNotFound(store.Read(other, 0, 0).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(store.Size("sha256:../../../etc/passwd").status()));
    EXPECT_TRUE(absl::IsPermissionDenied(store.Write({"a"}, 0, "").status()));
    EXPECT_TRUE(absl::IsNotFound(Store(channel, "oci:other").Size(digest).status()));
    EXPECT_TRUE(absl::IsInvalidArgument(Store(channel, "").Size(digest).status()));
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(ContentTest, WritesAreWholeOrNothing) {
  options_.outputs.push_back({"oci", {{"tar", "false"}}, {}});
  options_.outputs[0].target = {ExportTarget::Kind::kLayout, Path("out"), false};
  const std::string digest = Digest::Of("one two").ToString();
  const std::string descriptor = absl::StrCat(R"({"digest":")", digest, R"(","size":7})");
  const absl::Status status = Build(
      [&](const Channel& channel) {
        Store store(channel, "export");
        const std::string wrong = Digest::Of("three").ToString();
        EXPECT_TRUE(absl::IsFailedPrecondition(store.Write({"one two"}, 7, wrong).status()));
        EXPECT_TRUE(absl::IsFailedPrecondition(store.Write({"one two"}, 8, digest).status()));
        EXPECT_TRUE(absl::IsOutOfRange(store.Write({"one", " two"}, 7, digest, 1).status()));
        store.GiveUp("one");
        EXPECT_TRUE(absl::IsNotFound(store.Size(digest).status()));
        EXPECT_EQ(*store.Write({"one", " two"}, 7, digest), digest);
        EXPECT_TRUE(absl::IsAlreadyExists(store.Write({"one two"}, 7, digest).status()));
        EXPECT_EQ(*store.Read(digest, 0, 0), "one two");
      },
      {{"containerimage.descriptor", absl::Base64Escape(descriptor)},
       {"image.name", "docker.io/library/app:1,other.org/app:2"}});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(std::filesystem::directory_iterator(Path("out/ingest")),
              testing::Truly([](auto entry) { return entry == decltype(entry)(); }));
  EXPECT_EQ(*OciIndex(Path("out")).Find("docker.io/library/app:1"), digest);
  EXPECT_EQ(*OciIndex(Path("out")).Find("2"), digest);
  EXPECT_EQ(*ReadFileToString(Path("out/oci-layout")), R"({"imageLayoutVersion":"1.0.0"})");
}

TEST_F(ContentTest, CachesAreFoundByTheirTag) {
  const std::string folder = Path("cache ünï%");
  const std::string digest = Put(folder, "old");
  options_.cache_imports.push_back({"local", {{"src", folder}}});
  options_.cache_exports.push_back(
      {"local", {{"dest", folder}, {"tag", "next"}, {"reset", "true"}}});
  const std::string manifest = Digest::Of("new").ToString();
  const absl::Status status = Build(
      [&](const Channel& channel) {
        const std::string name = absl::StrCat("local:", dir_.path(), "/cache %c3%bcn%c3%af%25");
        Store store(channel, name);
        EXPECT_EQ(*store.Read(digest, 0, 0), "old");
        EXPECT_EQ(*store.Write({"new"}, 0, ""), manifest);
        EXPECT_EQ(*store.Write({"lost"}, 0, ""), Digest::Of("lost").ToString());
      },
      {{"cache.manifest", absl::StrCat(R"({"digest":")", manifest, R"("})")}});
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(solve_request_.cache().imports(0).attrs().at("digest"), digest);
  EXPECT_EQ(*OciIndex(folder).Find("next"), manifest);
  EXPECT_EQ(*OciIndex(folder).Find("latest"), digest);
  const OciLayout layout(folder);
  EXPECT_TRUE(layout.Info(*Digest::Parse(manifest)).ok());
  EXPECT_TRUE(absl::IsNotFound(layout.Info(Digest::Of("lost")).status()));  // reset
}

TEST_F(ContentTest, MistakesAreNamed) {
  const auto refused = [this](const char* text) {
    const absl::Status status = Build([](const Channel&) { FAIL(); });
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    options_ = {};
  };
  options_.cache_exports.push_back({"local", {}});
  refused("local cache exporter requires dest");
  options_.cache_imports.push_back({"local", {}});
  refused("local cache importer requires src");
  options_.cache_imports.push_back({"local", {{"src", Path("none")}}});
  refused("none/index.json");
  for (int i = 0; i < 2; ++i) {
    options_.outputs.push_back({"oci", {}, {}});
    options_.outputs.back().target = {ExportTarget::Kind::kLayout, Path("out"), false};
  }
  refused("only one output may have tar=false");
}

TEST(OciIndexTest, EntriesOfOneNameAreReplaced) {
  const store::TempDir dir;
  const OciIndex index(dir.path() + "/new/folder");
  EXPECT_TRUE(absl::IsNotFound(index.Find("latest").status()));
  ASSERT_TRUE(index.Put(R"({"digest":"a","annotations":{"k":"v"}})", {{"one", true}}).ok());
  ASSERT_TRUE(index.Put(R"({"digest":"b"})", {{"one", true}, {"x.org/i:one", false}}).ok());
  EXPECT_EQ(*index.Find("one"), "b");
  EXPECT_EQ(*index.Find("x.org/i:one"), "b");
  EXPECT_TRUE(absl::IsNotFound(index.FindDefault().status()));  // neither "latest" nor alone
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/new/folder/index.json.lock"));
  const std::string text = *ReadFileToString(dir.path() + "/new/folder/index.json");
  EXPECT_THAT(text, testing::Not(HasSubstr("\"a\"")));
  EXPECT_TRUE(absl::IsInvalidArgument(index.Put("[]", {{"one", true}})));
}

TEST(OciIndexTest, OneThatIsNoneIsNotWrittenOver) {
  const store::TempDir dir;
  const std::string path = dir.path() + "/index.json";
  for (const char* text : {"", "[]", "{\"manifests\":3}", "{\"manifests\":[3]}"}) {
    ASSERT_TRUE(WriteFileAtomic(path, text).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(OciIndex(dir.path()).Find("a").status())) << text;
    EXPECT_FALSE(OciIndex(dir.path()).Put(R"({"digest":"a"})", {{"a", true}}).ok()) << text;
    EXPECT_EQ(*ReadFileToString(path), text);
  }
}

TEST(OciIndexTest, ResetKeepsWhatManifestsName) {
  const store::TempDir dir;
  const OciLayout layout(dir.path());
  const auto put = [&](const std::string& data) {
    auto writer = layout.Write();
    EXPECT_TRUE((*writer)->Append(data).ok());
    return (*writer)->Commit(0, "")->ToString();
  };
  const std::string layer = put("layer");
  const std::string config = put("config");
  const std::string lost = put("lost");
  const std::string manifest = put(absl::StrCat(R"({"layers":[{"digest":")", layer,
                                                R"("}],"config":{"digest":")", config, R"("}})"));
  ASSERT_TRUE(OciIndex(dir.path())
                  .Put(absl::StrCat(R"({"mediaType":"application/vnd.oci.image.manifest.v1+json",)",
                                    R"("digest":")", manifest, R"("})"),
                       {{"latest", true}})
                  .ok());
  ASSERT_TRUE(OciIndex(dir.path()).RemoveUnreachable().ok());
  for (const std::string& kept : {layer, config, manifest})
    EXPECT_TRUE(layout.Info(*Digest::Parse(kept)).ok());
  EXPECT_TRUE(absl::IsNotFound(layout.Info(*Digest::Parse(lost)).status()));
}

}  // namespace
}  // namespace kiln::client
