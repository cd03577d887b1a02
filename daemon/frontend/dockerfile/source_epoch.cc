// SOURCE_DATE_EPOCH (dockerfile.md 6.8).
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/llb/source.h"
#include "daemon/frontend/dockerfile/archive.h"
#include "daemon/frontend/dockerfile/compilation.h"
#include "daemon/frontend/dockerfile/git_reference.h"
#include "daemon/frontend/dockerfile/go_format.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

constexpr char kEpoch[] = "SOURCE_DATE_EPOCH";
constexpr char kOneAdd[] = "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD";

// The only source op of a graph; nullopt when there are several or none.
absl::StatusOr<std::optional<pb::SourceOp>> OnlySource(const llb::State& state) {
  KILN_ASSIGN_OR_RETURN(const llb::Definition definition, state.Marshal());
  std::optional<pb::SourceOp> only;
  for (const llb::Definition::Op& entry : definition.ops()) {
    const absl::string_view bytes = definition.Bytes(entry);
    pb::Op op;
    if (!op.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || !op.has_source())
      continue;
    if (only) return std::nullopt;
    only = op.source();
  }
  return only;
}

// The source of the ADD in a stage that only has this one.
absl::StatusOr<llb::State> SourceOfAdd(const Add& add, const EnvList& env, char escape) {
  if (!add.paths.inline_files.empty() || add.paths.sources.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(kOneAdd, " source"));
  }
  ExpandOptions options;
  options.escape = escape;
  KILN_ASSIGN_OR_RETURN(const std::string source,
                        ExpandWord(add.paths.sources[0], options, EnvLookup(env)));
  KILN_ASSIGN_OR_RETURN(const std::string checksum,
                        ExpandWord(add.checksum, options, EnvLookup(env)));
  KILN_ASSIGN_OR_RETURN(const std::optional<GitReference> git, ParseGitReference(source));
  if (git && !git->looks_local) {
    llb::GitInfo info = GitSourceInfo(*git);
    info.keep_git_dir = add.keep_git_dir.value_or(false) || git->keep_git_dir.value_or(false);
    if (!checksum.empty()) info.checksum = checksum;
    return llb::Git(git->remote, std::move(info));
  }
  if (!IsHttpSource(source)) {
    return absl::InvalidArgumentError(
        "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD");
  }
  llb::HttpInfo info;
  info.filename = HttpFilename(source);
  if (!checksum.empty()) {
    KILN_ASSIGN_OR_RETURN(const Digest digest, Digest::Parse(checksum));
    info.checksum = digest.ToString();
  }
  return llb::Http(source, std::move(info));
}

}  // namespace

absl::Status Compilation::ResolveEpoch() {
  std::string value;
  const auto given = build_args_.find(kEpoch);
  if (given != build_args_.end()) {
    value = given->second;
  } else if (const auto global = EnvLookup(globals_.env)(kEpoch)) {
    value = std::string(*global);
  }
  if (value.empty() && given == build_args_.end()) return absl::OkStatus();
  KILN_ASSIGN_OR_RETURN(epoch_, EpochOf(value));
  // What stages see is the time, not where it came from.
  if (given != build_args_.end()) {
    if (epoch_) {
      given->second = absl::StrCat(*epoch_);
    } else {
      build_args_.erase(given);
    }
  }
  if (!EnvLookup(globals_.env)(kEpoch)) return absl::OkStatus();
  if (epoch_) {
    SetVariable(kEpoch, absl::StrCat(*epoch_), &globals_.env);
  } else {
    EraseVariable(kEpoch, &globals_.env);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int64_t>> Compilation::EpochOf(const std::string& value) {
  if (value.empty()) return std::nullopt;
  if (const auto seconds = ParseInt(value); seconds.ok()) return *seconds;
  if (value == "context") {
    const auto& remote = request_.sources->remote();
    if (!remote) return std::nullopt;
    return EpochOfState(remote->state, "[internal] resolve main build context metadata");
  }
  KILN_ASSIGN_OR_RETURN(
      const std::optional<NamedContext> context,
      FindNamedContext(request_.sources->client(), value, options_.build_platforms[0]));
  if (context) {
    KILN_ASSIGN_OR_RETURN(const LoadedContext loaded,
                          contexts_.Load(*context, [] { return std::vector<std::string>(); }));
    return EpochOfState(loaded.state,
                        absl::StrCat("[internal] resolve SOURCE_DATE_EPOCH named context ", value));
  }
  for (const Stage& stage : document_.stages) {
    if (stage.name.empty() || !absl::EqualsIgnoreCase(stage.name, value)) continue;
    return EpochOfStage(stage);
  }
  return absl::InvalidArgumentError(absl::StrCat("invalid SOURCE_DATE_EPOCH: ", value));
}

absl::StatusOr<std::optional<int64_t>> Compilation::EpochOfStage(const Stage& stage) {
  EnvList env = globals_.env;
  EraseVariable(kEpoch, &env);
  ExpandOptions options;
  options.escape = document_.escape;
  std::optional<llb::State> source;
  const auto read = [&]() -> absl::Status {
    KILN_ASSIGN_OR_RETURN(const std::string base, ExpandWord(stage.base, options, EnvLookup(env)));
    if (base != "scratch") {
      return absl::InvalidArgumentError("SOURCE_DATE_EPOCH stage must use FROM scratch");
    }
    for (const Instruction& instruction : stage.instructions) {
      if (const auto* args = std::get_if<Arg>(&instruction.body)) {
        for (const ArgDefinition& arg : args->args) {
          if (const auto given = build_args_.find(arg.key); given != build_args_.end()) {
            SetVariable(arg.key, given->second, &env);
          } else if (arg.value) {
            KILN_ASSIGN_OR_RETURN(const std::string value,
                                  ExpandWord(*arg.value, options, EnvLookup(env)));
            SetVariable(arg.key, value, &env);
          }
        }
      } else if (const auto* add = std::get_if<Add>(&instruction.body)) {
        if (source) return absl::InvalidArgumentError(kOneAdd);
        KILN_ASSIGN_OR_RETURN(source, SourceOfAdd(*add, env, document_.escape));
      } else {
        return absl::InvalidArgumentError(
            absl::StrCat("SOURCE_DATE_EPOCH stage does not meet source-only requirements: "
                         "unsupported ",
                         instruction.text.keyword, " instruction"));
      }
    }
    return source ? absl::OkStatus() : absl::InvalidArgumentError(kOneAdd);
  };
  KILN_RETURN_IF_ERROR(WithLocation(read(), stage.text.lines));
  return EpochOfState(
      *source, absl::StrCat("[internal] resolve SOURCE_DATE_EPOCH source stage ", stage.name));
}

absl::StatusOr<std::optional<int64_t>> Compilation::EpochOfState(const llb::State& state,
                                                                 const std::string& log_name) {
  KILN_ASSIGN_OR_RETURN(const std::optional<pb::SourceOp> source, OnlySource(state));
  if (!source) return std::nullopt;
  const bool http = absl::StartsWith(source->identifier(), "http://") ||
                    absl::StartsWith(source->identifier(), "https://");
  if (!http && !absl::StartsWith(source->identifier(), "git://")) return std::nullopt;
  FrontendClient& client = request_.sources->client();
  KILN_ASSIGN_OR_RETURN(const FrontendClient::SourceFacts facts,
                        client.ResolveSource(source->SerializeAsString(), log_name));
  if (facts.changed_unix_seconds) return *facts.changed_unix_seconds;
  const auto filename = source->attrs().find("http.filename");
  if (!http) {
    return absl::UnimplementedError(
        "SOURCE_DATE_EPOCH: this daemon does not tell the time of a git commit");
  }
  if (filename == source->attrs().end() || filename->second.empty()) return std::nullopt;
  // A server that tells no time may serve an archive that does.
  KILN_ASSIGN_OR_RETURN(
      const llb::Definition definition,
      llb::Source(source->identifier(), {source->attrs().begin(), source->attrs().end()})
          .Marshal());
  FrontendClient::Solve solve;
  solve.definition = definition.Serialize();
  KILN_ASSIGN_OR_RETURN(const BridgeResult result, client.SolveGraph(solve));
  KILN_ASSIGN_OR_RETURN(const std::string data,
                        client.ReadFile(result.ref, filename->second, 0, -1));
  return NewestFileTime(data);
}

}  // namespace kiln::daemon::dockerfile
