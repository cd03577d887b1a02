#include "tests/daemon/frontend/dockerfile/fake_client.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/buildkit/ops.pb.h"

namespace kiln::daemon {

std::vector<FrontendClient::Solve> FakeClient::Solves() const {
  MutexLock lock(&mu_);
  return solves_;
}

std::vector<std::pair<Digest, solver::Warning>> FakeClient::Warnings() const {
  MutexLock lock(&mu_);
  return warnings_;
}

std::vector<FrontendClient::ImageRequest> FakeClient::Requests() const {
  MutexLock lock(&mu_);
  return requests_;
}

std::vector<std::string> FakeClient::Prefetched() const {
  MutexLock lock(&mu_);
  return prefetched_;
}

void FakeClient::AddImage(const std::string& name, const std::string& config_members) {
  Image image;
  image.reference = absl::StrCat("docker.io/library/", name, ":latest");
  image.digest = Digest::Of(name);
  image.config = absl::StrCat(
      R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:)",
      std::string(64, 'a'), R"("]},"config":{)", config_members, "}}");
  images[image.reference] = image;
}

absl::StatusOr<BridgeResult> FakeClient::SolveGraph(const Solve& solve) {
  if (!solve.frontend.empty()) {
    MutexLock lock(&mu_);
    solves_.push_back(solve);
    return nested;
  }
  pb::Definition definition;
  if (!definition.ParseFromString(solve.definition)) {
    return absl::InvalidArgumentError("malformed definition");
  }
  MutexLock lock(&mu_);
  solves_.push_back(solve);
  BridgeResult result;
  if (definition.def_size() > 0) result.ref = absl::StrCat(solves_.size() - 1);
  return result;
}

void FakeClient::Prefetch(absl::string_view ref) {
  std::string definition = DefinitionOf(ref).value_or("");
  MutexLock lock(&mu_);
  prefetched_.push_back(std::move(definition));
}

absl::StatusOr<std::string> FakeClient::DefinitionOf(absl::string_view ref) {
  MutexLock lock(&mu_);
  size_t index = 0;
  if (!absl::SimpleAtoi(ref, &index) || index >= solves_.size()) {
    return absl::NotFoundError("no such ref");
  }
  return solves_[index].definition;
}

// Only graphs of one source have files.
absl::StatusOr<std::string> FakeClient::ReadFile(absl::string_view ref, absl::string_view path,
                                                 int64_t offset, int64_t length) {
  const absl::StatusOr<std::string> bytes = DefinitionOf(ref);
  if (!bytes.ok()) return bytes.status();
  pb::Definition definition;
  definition.ParseFromString(*bytes);
  pb::Op op;
  op.ParseFromString(definition.def(0));
  std::string identifier = op.source().identifier();
  const std::string* content = nullptr;
  if (const auto url = url_files.find(identifier); url != url_files.end()) content = &url->second;
  const auto local = locals.find(std::string(absl::StripPrefix(identifier, "local://")));
  if (local != locals.end()) {
    const auto file = local->second.find(std::string(path));
    if (file != local->second.end()) content = &file->second;
  }
  if (content == nullptr) {
    return absl::NotFoundError(absl::StrCat("open ", path, ": no such file or directory"));
  }
  return content->substr(offset, length < 0 ? std::string::npos : length);
}

absl::StatusOr<std::vector<fsutil::Stat>> FakeClient::ReadDir(absl::string_view, absl::string_view,
                                                              const std::string&) {
  return absl::UnimplementedError("the fake has no directories");
}

absl::StatusOr<fsutil::Stat> FakeClient::StatFile(absl::string_view, absl::string_view) {
  return absl::UnimplementedError("the fake has no directories");
}

absl::StatusOr<FrontendClient::Image> FakeClient::ResolveImage(const ImageRequest& request) {
  MutexLock lock(&mu_);
  requests_.push_back(request);
  const auto image = images.find(request.reference);
  if (image == images.end()) {
    return absl::NotFoundError(absl::StrCat(request.reference, ": not found"));
  }
  return image->second;
}

absl::StatusOr<FrontendClient::SourceFacts> FakeClient::ResolveSource(absl::string_view,
                                                                      const std::string&) {
  return source_facts;
}

absl::Status FakeClient::Warn(const Digest& vertex, const solver::Warning& warning) {
  MutexLock lock(&mu_);
  warnings_.emplace_back(vertex, warning);
  return absl::OkStatus();
}

}  // namespace kiln::daemon
