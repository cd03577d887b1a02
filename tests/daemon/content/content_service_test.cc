#include "daemon/content/content_service.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "proto/containerd/content.grpc.pb.h"
#include "store/database.h"
#include "store/root.h"
#include "tests/store/temp_dir.h"

namespace kiln::daemon {
namespace {

namespace content = containerd::services::content::v1;
using testing::HasSubstr;

class ContentServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = *store::Root::Open(dir_.path(), "boot-1");
    store::DatabaseOptions options;
    options.path = root_->index_dir();
    options.boot_id = "boot-1";
    database_ = *store::Database::Open(options);
    blobs_ = *store::BlobStore::Open(root_.get(), database_.get(), {});
    pool_ = std::make_unique<ThreadPool>("test", 4);
    service_ = MakeContentService({blobs_.get(), pool_.get()});
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = content::Content::NewStub(server_->InProcessChannel({}));
  }
  void TearDown() override { server_->Shutdown(); }

  std::string Put(const std::string& bytes) {
    auto writer = *blobs_->Ingest({}, "test");
    EXPECT_TRUE(writer->Append(bytes).ok());
    return writer->Commit()->ToString();
  }
  grpc::Status Read(const std::string& digest, int64_t offset, int64_t size, std::string* out) {
    grpc::ClientContext context;
    content::ReadContentRequest request;
    request.set_digest(digest);
    request.set_offset(offset);
    request.set_size(size);
    auto stream = stub_->Read(&context, request);
    content::ReadContentResponse response;
    while (stream->Read(&response)) {
      EXPECT_EQ(response.offset(), offset + static_cast<int64_t>(out->size()));
      EXPECT_LE(response.data().size(), 1u << 20);
      out->append(response.data());
    }
    return stream->Finish();
  }

  store::TempDir dir_;
  std::unique_ptr<store::Root> root_;
  std::unique_ptr<store::Database> database_;
  std::unique_ptr<store::BlobStore> blobs_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<content::Content::Stub> stub_;
};

TEST_F(ContentServiceTest, InfoAndRead) {
  const std::string bytes(5 << 19, 'x');
  const std::string digest = Put(bytes);
  grpc::ClientContext context;
  content::InfoRequest request;
  request.set_digest(digest);
  content::InfoResponse response;
  ASSERT_TRUE(stub_->Info(&context, request, &response).ok());
  EXPECT_EQ(response.info().size(), static_cast<int64_t>(bytes.size()));
  std::string read;
  ASSERT_TRUE(Read(digest, 0, 0, &read).ok());
  EXPECT_EQ(read, bytes);
  read.clear();
  ASSERT_TRUE(Read(digest, 7, 9, &read).ok());
  EXPECT_EQ(read.size(), 9u);
  read.clear();
  ASSERT_TRUE(Read(digest, static_cast<int64_t>(bytes.size()), 9, &read).ok());
  EXPECT_EQ(read, "");
  ASSERT_TRUE(Read(digest, 7, INT64_MAX, &read).ok());
  EXPECT_EQ(read.size(), bytes.size() - 7);
}

TEST_F(ContentServiceTest, WhatIsNotThere) {
  const std::string digest = Put("abc");
  std::string read;
  EXPECT_EQ(Read(digest, 4, 0, &read).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Read(digest, -1, 0, &read).error_code(), grpc::StatusCode::OUT_OF_RANGE);
  const grpc::Status gone = Read(Digest::Of("gone").ToString(), 0, 0, &read);
  EXPECT_EQ(gone.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(gone.error_message(), HasSubstr("content sha256:"));
  EXPECT_EQ(Read("../../etc/passwd", 0, 0, &read).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  grpc::ClientContext context;
  content::StatusRequest request;
  request.set_ref("x");
  content::StatusResponse response;
  EXPECT_EQ(stub_->Status(&context, request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ContentServiceTest, ListsEveryBlob) {
  for (int i = 0; i < 250; ++i) Put("blob " + std::to_string(i));
  grpc::ClientContext context;
  auto stream = stub_->List(&context, content::ListContentRequest());
  content::ListContentResponse response;
  int count = 0;
  while (stream->Read(&response)) count += response.info_size();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(count, 250);
  grpc::ClientContext filtered;
  content::ListContentRequest request;
  request.add_filters("labels.x==y");
  auto refused = stub_->List(&filtered, request);
  EXPECT_FALSE(refused->Read(&response));
  EXPECT_EQ(refused->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ContentServiceTest, ChangesAreRefused) {
  const std::string digest = Put("abc");
  google::protobuf::Empty empty;
  {
    grpc::ClientContext context;
    content::DeleteContentRequest request;
    request.set_digest(digest);
    const grpc::Status status = stub_->Delete(&context, request, &empty);
    EXPECT_THAT(status.error_message(), HasSubstr("read-only content store"));
  }
  grpc::ClientContext context;
  auto stream = stub_->Write(&context);
  content::WriteContentResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_THAT(stream->Finish().error_message(), HasSubstr("read-only content store"));
}

}  // namespace
}  // namespace kiln::daemon
