#include "daemon/images/images_service.h"

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "proto/kiln/images.grpc.pb.h"
#include "tests/daemon/exporter/image_fixture.h"

namespace kiln::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ImagesServiceTest : public ImageExporterTest {
 protected:
  void SetUp() override {
    ImageExporterTest::SetUp();
    pool_ = std::make_unique<ThreadPool>("test", 4);
    service_ = MakeImagesService({images_.get(), blobs_.get(), pusher_.get(), pool_.get()});
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::Images::NewStub(server_->InProcessChannel({}));
    ExportSource source = Map({"linux/amd64", "linux/arm64"});
    layers_->Add("linux/amd64", "one");
    layers_->Add("linux/amd64", "base", "r.test/base");
    ASSERT_TRUE(Export("image", {{"name", "r.test/app:1"}}, source).ok());
    holds_.clear();
  }
  void TearDown() override { server_->Shutdown(); }

  v1::ListImagesResponse List() {
    grpc::ClientContext context;
    v1::ListImagesResponse response;
    EXPECT_TRUE(stub_->List(&context, {}, &response).ok());
    return response;
  }
  grpc::Status Tag(const std::string& source, const std::string& target) {
    grpc::ClientContext context;
    v1::TagImageRequest request;
    request.set_source(source);
    request.set_target(target);
    v1::TagImageResponse response;
    return stub_->Tag(&context, request, &response);
  }
  grpc::Status Remove(const std::vector<std::string>& names) {
    grpc::ClientContext context;
    v1::RemoveImagesRequest request;
    for (const std::string& name : names) request.add_names(name);
    v1::RemoveImagesResponse response;
    return stub_->Remove(&context, request, &response);
  }
  grpc::Status Push(const std::string& name) {
    grpc::ClientContext context;
    v1::PushImageRequest request;
    request.set_name(name);
    auto stream = stub_->Push(&context, request);
    while (stream->Read(&last_)) {
    }
    return stream->Finish();
  }

  v1::PushImageProgress last_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Images::Stub> stub_;
};

TEST_F(ImagesServiceTest, ListTagAndRemove) {
  ASSERT_EQ(List().images_size(), 1);
  const v1::Image image = List().images(0);
  EXPECT_EQ(image.name(), "r.test/app:1");
  EXPECT_THAT(image.platforms(), ElementsAre("linux/amd64", "linux/arm64"));
  EXPECT_EQ(image.missing_bytes(), static_cast<int64_t>(FakeLayerStore::BytesOf("base").size()));
  EXPECT_GT(image.size_bytes(), image.missing_bytes());
  ASSERT_TRUE(Tag("r.test/app:1", "short").ok());
  EXPECT_EQ(List().images(0).name(), "docker.io/library/short:latest");
  EXPECT_EQ(List().images(0).digest(), image.digest());
  // Nothing goes when one of the names is wrong.
  const grpc::Status wrong = Remove({"short", "nothing"});
  EXPECT_EQ(wrong.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(wrong.error_message(), HasSubstr("no image \"docker.io/library/nothing:latest\""));
  EXPECT_EQ(List().images_size(), 2);
  EXPECT_TRUE(Remove({"short", "r.test/app:1"}).ok());
  EXPECT_EQ(List().images_size(), 0);
  EXPECT_EQ(Tag("short", "x").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Tag("BAD", "x").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

// gRPC may be done with a call before the thread that finished it is: seen by AddressSanitizer.
TEST_F(ImagesServiceTest, PushesMayEndWhileTheirThreadStillHoldsThem) {
  for (int i = 0; i < 100; ++i)
    ASSERT_EQ(Push("nothing").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ImagesServiceTest, PushesWhatWasKept) {
  registry_.blobs["r.test/base"][Digest::Of(FakeLayerStore::BytesOf("base"))] =
      FakeLayerStore::BytesOf("base");
  const grpc::Status pushed = Push("r.test/app:1");
  ASSERT_TRUE(pushed.ok()) << pushed.error_message();
  EXPECT_EQ(Digest::Of(registry_.manifests.at("r.test/app:1")).ToString(), last_.digest());
  EXPECT_EQ(registry_.mounts, 1);
  EXPECT_EQ(layers_->fetches, 0);
  // Elsewhere the remote layer is brought over.
  ASSERT_TRUE(Tag("r.test/app:1", "other.test/app").ok());
  ASSERT_TRUE(Push("other.test/app").ok());
  EXPECT_EQ(layers_->fetches, 1);
  EXPECT_EQ(Push("nothing").error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace kiln::daemon
