#include "daemon/frontend/dockerfile/build_sources.h"

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/llb/file_action.h"
#include "client/llb/from_definition.h"
#include "client/llb/go_path.h"
#include "daemon/frontend/dockerfile/archive.h"
#include "daemon/frontend/dockerfile/git_reference.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/ignore_file.h"
#include "proto/buildkit/ops.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

constexpr char kContext[] = "context";
constexpr char kHttpFilename[] = "context";
constexpr char kIgnoreFile[] = ".dockerignore";

llb::Constraints Internal(absl::string_view name) {
  return llb::Named(absl::StrCat("[internal] ", name));
}

// The value of an option; nullptr when it is not there.
const std::string* Find(const FrontendClient& client, const std::string& key) {
  const auto found = client.opts().find(key);
  return found == client.opts().end() ? nullptr : &found->second;
}

// "Dockerfile" -> "dockerfile" in the same directory; "" for files of other names.
std::string LowerCaseName(const std::string& filename) {
  const size_t slash = filename.rfind('/');
  const std::string base = slash == std::string::npos ? filename : filename.substr(slash + 1);
  if (base != "Dockerfile") return "";
  const std::string dir = slash == std::string::npos ? "." : filename.substr(0, slash + 1);
  return llb::JoinPath(dir, "dockerfile");
}

}  // namespace

absl::StatusOr<std::optional<llb::State>> GitContext(const std::string& url,
                                                     std::optional<bool> keep_git_dir,
                                                     bool commit_mtime) {
  KILN_ASSIGN_OR_RETURN(const std::optional<GitReference> git, ParseGitReference(url));
  if (!git) return std::nullopt;
  llb::GitInfo info = GitSourceInfo(*git);
  info.keep_git_dir = git->keep_git_dir.value_or(false) || keep_git_dir.value_or(false);
  info.mtime = !git->mtime.empty() ? git->mtime : commit_mtime ? "commit" : "";
  info.constraints = Internal(absl::StrCat("load git source ", url));
  return llb::Git(git->remote, std::move(info));
}

absl::Status BuildSources::Open() {
  if (const std::string* name = Find(*client_, "filename")) filename_ = *name;
  if (const std::string* name = Find(*client_, "dockerfilekey")) {
    dockerfile_is_local_ = true;
    dockerfile_local_ = *name;
  }
  const std::string* key = Find(*client_, "contextkey");
  const std::string* context = Find(*client_, key != nullptr ? *key : kContext);
  const std::string url = context != nullptr ? *context : "";
  std::optional<bool> keep_git_dir;
  if (const std::string* text = Find(*client_, "build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR")) {
    keep_git_dir = ParseBool(*text);
  }
  const std::string* epoch = Find(*client_, "build-arg:SOURCE_DATE_EPOCH");
  KILN_ASSIGN_OR_RETURN(const std::optional<llb::State> git,
                        GitContext(url, keep_git_dir, epoch != nullptr && !epoch->empty()));
  if (git) {
    context_ = dockerfile_ = *git;
    remote_ = RemoteContext{*git, true, ""};
  } else if (absl::StartsWith(url, "http://") || absl::StartsWith(url, "https://")) {
    KILN_RETURN_IF_ERROR(OpenHttp(url));
  } else {
    KILN_RETURN_IF_ERROR(OpenInputs());
  }
  const std::string* subdir = Find(*client_, "contextsubdir");
  if (context_ && subdir != nullptr) {
    llb::CopyInfo copy;
    copy.dir_contents_only = true;
    context_ = llb::State().File(llb::Copy(*context_, *subdir, "/", std::move(copy)));
  }
  return absl::OkStatus();
}

absl::Status BuildSources::OpenHttp(const std::string& url) {
  llb::HttpInfo info;
  info.filename = kHttpFilename;
  info.constraints = Internal("load remote build context");
  const llb::State download = llb::Http(url, std::move(info));
  KILN_ASSIGN_OR_RETURN(const llb::Definition definition, download.Marshal());
  FrontendClient::Solve solve;
  solve.definition = definition.Serialize();
  KILN_ASSIGN_OR_RETURN(const BridgeResult result,
                        Annotate(client_->SolveGraph(solve), "failed to resolve httpcontext"));
  KILN_ASSIGN_OR_RETURN(const std::string head,
                        Annotate(client_->ReadFile(result.ref, kHttpFilename, 0, 1024),
                                 "failed to read downloaded context"));
  remote_ = RemoteContext{download, false, ""};
  if (IsArchive(head)) {
    llb::CopyInfo copy;
    copy.attempt_unpack = true;
    context_ = llb::State().File(
        llb::Copy(download, absl::StrCat("/", kHttpFilename), "/", std::move(copy)));
    remote_->archive_ref = result.ref;
  } else {
    filename_ = kHttpFilename;  // the download is the Dockerfile
    context_ = download;
  }
  dockerfile_ = context_;
  return absl::OkStatus();
}

absl::Status BuildSources::OpenInputs() {
  const std::map<std::string, std::string>& inputs = client_->inputs();
  if (const auto input = inputs.find(dockerfile_local_);
      input != inputs.end() && !dockerfile_is_local_) {
    KILN_ASSIGN_OR_RETURN(dockerfile_, Annotate(llb::FromDefinition(input->second),
                                                absl::StrCat("input ", input->first)));
  }
  if (const auto input = inputs.find(kContext); input != inputs.end()) {
    KILN_ASSIGN_OR_RETURN(context_, Annotate(llb::FromDefinition(input->second),
                                             absl::StrCat("input ", input->first)));
  }
  return absl::OkStatus();
}

const std::string& BuildSources::SessionOf(const std::string& name) const {
  const std::string* session = Find(*client_, absl::StrCat("local-sessionid:", name));
  return session != nullptr ? *session : client_->session_id();
}

absl::StatusOr<llb::State> BuildSources::DockerfileSource() const {
  if (dockerfile_ && !dockerfile_is_local_) return *dockerfile_;
  llb::LocalInfo info;
  info.follow_paths = {filename_, absl::StrCat(filename_, kIgnoreFile)};
  if (const std::string lower = LowerCaseName(filename_); !lower.empty()) {
    info.follow_paths.push_back(lower);
  }
  info.session_id = SessionOf(dockerfile_local_);
  info.shared_key_hint = dockerfile_local_;
  info.differ = "none";
  info.constraints = Internal(absl::StrCat("load build definition from ", filename_));
  return llb::Local(dockerfile_local_, std::move(info));
}

absl::StatusOr<BuildSources::Dockerfile> BuildSources::ReadDockerfile() {
  KILN_ASSIGN_OR_RETURN(const llb::State source, DockerfileSource());
  KILN_ASSIGN_OR_RETURN(const llb::Definition definition, source.Marshal());
  FrontendClient::Solve solve;
  solve.definition = definition.Serialize();
  KILN_ASSIGN_OR_RETURN(const BridgeResult result,
                        Annotate(client_->SolveGraph(solve), "failed to resolve dockerfile"));
  client_->Prefetch(result.ref);
  // Nearly every build of a client's directory needs it, and the client is asked for both at once.
  if (!context_ && Find(*client_, "requestid") == nullptr) {
    if (auto ref = IgnoreFileRef(); ref.ok()) client_->Prefetch(ignore_ref_ = *std::move(ref));
  }
  absl::StatusOr<std::string> data = client_->ReadFile(result.ref, filename_, 0, -1);
  if (const std::string lower = LowerCaseName(filename_); !data.ok() && !lower.empty()) {
    if (auto other = client_->ReadFile(result.ref, lower, 0, -1); other.ok()) data = other;
  }
  if (!data.ok()) return Annotate(data.status(), "failed to read dockerfile");
  Dockerfile dockerfile;
  pb::Source unlocated;
  // The last op only names the result.
  if (definition.ops().size() > 1) {
    dockerfile.vertex = definition.ops()[definition.ops().size() - 2].digest;
    (*unlocated.mutable_locations())[dockerfile.vertex.ToString()];
  }
  // Where it is shown it names the op though that stands in no file: clients compare it.
  pb::Definition shown;
  shown.mutable_source()->Swap(&unlocated);
  dockerfile.text = std::make_shared<const llb::SourceText>(
      llb::SourceText{filename_, "Dockerfile", *std::move(data),
                      absl::StrCat(solve.definition, shown.SerializeAsString())});
  const std::string beside = absl::StrCat(filename_, kIgnoreFile);
  if (auto ignore = client_->ReadFile(result.ref, beside, 0, -1); ignore.ok()) {
    ignore_name_ = beside;
    ignore_data_ = *std::move(ignore);
  }
  return dockerfile;
}

absl::StatusOr<std::string> BuildSources::LoadFiles(const std::string& local_name,
                                                    llb::LocalInfo info, bool evaluate) {
  info.session_id = SessionOf(local_name);
  info.differ = "none";
  return RefOf(llb::Local(local_name, std::move(info)), evaluate);
}

absl::StatusOr<std::string> BuildSources::RefOf(const llb::State& source, bool evaluate) {
  KILN_ASSIGN_OR_RETURN(const llb::Definition definition, source.Marshal());
  FrontendClient::Solve solve;
  solve.definition = definition.Serialize();
  solve.evaluate = evaluate;
  KILN_ASSIGN_OR_RETURN(const BridgeResult result, client_->SolveGraph(solve));
  return result.ref;
}

absl::StatusOr<std::string> BuildSources::IgnoreFileRef() {
  llb::LocalInfo info;
  info.follow_paths = {kIgnoreFile};
  info.shared_key_hint = absl::StrCat(kContext, "-", kIgnoreFile);
  info.constraints = Internal(absl::StrCat("load ", kIgnoreFile));
  return LoadFiles(kContext, std::move(info), false);
}

absl::Status BuildSources::LoadIgnoreFile() {
  if (ignore_ref_.empty()) {
    KILN_ASSIGN_OR_RETURN(ignore_ref_, IgnoreFileRef());
  }
  ignore_name_ = kIgnoreFile;
  auto data = client_->ReadFile(ignore_ref_, kIgnoreFile, 0, -1);
  if (data.ok()) ignore_data_ = *std::move(data);  // none: nothing is ignored
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> BuildSources::IgnorePatterns() {
  if (context_) return std::vector<std::string>();
  absl::call_once(ignore_once_, [this] {
    if (ignore_name_.empty()) ignore_status_ = LoadIgnoreFile();
  });
  KILN_RETURN_IF_ERROR(ignore_status_);
  return Annotate(ParseIgnoreFile(ignore_data_), absl::StrCat("failed parsing ", ignore_name_));
}

absl::StatusOr<llb::State> BuildSources::MainContext(NeededPaths needed) {
  if (context_) return *context_;
  llb::LocalInfo info;
  info.session_id = SessionOf(kContext);
  info.shared_key_hint = kContext;
  info.constraints = Internal("load build context");
  KILN_ASSIGN_OR_RETURN(info.exclude_patterns,
                        Annotate(IgnorePatterns(), "failed to read dockerignore patterns"));
  return llb::DeferredSource([info = std::move(info), needed = std::move(needed)] {
    llb::LocalInfo now = info;
    now.follow_paths = needed();
    return llb::Local(kContext, std::move(now));
  });
}

void BuildSources::BeginMainContext(const llb::State& context) {
  if (context_) return;
  if (const auto ref = RefOf(context, false); ref.ok()) client_->Prefetch(*ref);
}

}  // namespace kiln::daemon::dockerfile
