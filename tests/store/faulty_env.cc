#include "tests/store/faulty_env.h"

#include <rocksdb/file_system.h>

#include <utility>

namespace kiln::store {
namespace {

using rocksdb::FileOptions;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus Try(FaultPlan* plan) {
  if (!plan->failing) {
    if (--plan->writes_left >= 0) return IOStatus::OK();
    plan->failing = true;
  }
  ++plan->failures;
  return plan->kind == FaultPlan::Kind::kNoSpace ? IOStatus::NoSpace("injected: disk full")
                                                 : IOStatus::IOError("injected: i/o error");
}

class FaultyFile : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(std::unique_ptr<FSWritableFile> file, FaultPlan* plan)
      : FSWritableFileOwnerWrapper(std::move(file)), plan_(plan) {}

  IOStatus Append(const Slice& data, const IOOptions& options, IODebugContext* debug) override {
    IOStatus s = Try(plan_);
    if (s.ok()) return FSWritableFileOwnerWrapper::Append(data, options, debug);
    Tear(data, options, debug);
    return s;
  }
  IOStatus Append(const Slice& data, const IOOptions& options,
                  const rocksdb::DataVerificationInfo& info, IODebugContext* debug) override {
    IOStatus s = Try(plan_);
    if (s.ok()) return FSWritableFileOwnerWrapper::Append(data, options, info, debug);
    Tear(data, options, debug);
    return s;
  }
  IOStatus Sync(const IOOptions& options, IODebugContext* debug) override {
    IOStatus s = Try(plan_);
    return s.ok() ? FSWritableFileOwnerWrapper::Sync(options, debug) : s;
  }
  IOStatus Fsync(const IOOptions& options, IODebugContext* debug) override {
    IOStatus s = Try(plan_);
    return s.ok() ? FSWritableFileOwnerWrapper::Fsync(options, debug) : s;
  }

 private:
  void Tear(const Slice& data, const IOOptions& options, IODebugContext* debug) {
    if (!plan_->torn) return;
    // Whether this works does not matter: the caller hears of a failure in any case.
    FSWritableFileOwnerWrapper::Append(Slice(data.data(), data.size() / 2), options, debug)
        .PermitUncheckedError();
  }

  FaultPlan* const plan_;
};

class FaultyFileSystem : public rocksdb::FileSystemWrapper {
 public:
  explicit FaultyFileSystem(FaultPlan* plan)
      : FileSystemWrapper(rocksdb::FileSystem::Default()), plan_(plan) {}
  const char* Name() const override { return "FaultyFileSystem"; }

  IOStatus NewWritableFile(const std::string& name, const FileOptions& options,
                           std::unique_ptr<FSWritableFile>* result,
                           IODebugContext* debug) override {
    IOStatus s = Try(plan_);
    if (s.ok()) s = FileSystemWrapper::NewWritableFile(name, options, result, debug);
    if (s.ok()) *result = std::make_unique<FaultyFile>(std::move(*result), plan_);
    return s;
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& options,
                      IODebugContext* debug) override {
    IOStatus s = Try(plan_);
    return s.ok() ? FileSystemWrapper::RenameFile(from, to, options, debug) : s;
  }

 private:
  FaultPlan* const plan_;
};

}  // namespace

std::unique_ptr<rocksdb::Env> NewFaultyEnv(FaultPlan* plan) {
  return rocksdb::NewCompositeEnv(std::make_shared<FaultyFileSystem>(plan));
}

}  // namespace kiln::store
