#include "daemon/gateway/bridge_client.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/gateway/file_access.h"
#include "daemon/registry/reference.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kDockerfile[] = "dockerfile.v0";
constexpr char kGateway[] = "gateway.v0";
constexpr char kSourceOption[] = "source";
constexpr absl::string_view kImageScheme = "docker-image://";
constexpr absl::string_view kOciLayoutScheme = "oci-layout://";

std::string Option(const std::map<std::string, std::string>& opts, const std::string& key) {
  const auto found = opts.find(key);
  return found == opts.end() ? "" : found->second;
}

// The image that carries the built-in frontend is asked for by name, unless the client gives a
// context of that name.
bool NamesBuiltIn(const std::string& name, const std::map<std::string, std::string>& opts) {
  if (name != kGateway || Option(opts, kSourceOption) != kDockerfile) return false;
  const auto context = opts.lower_bound(absl::StrCat("context:", kDockerfile));
  return context == opts.end() ||
         !absl::StartsWith(context->first, absl::StrCat("context:", kDockerfile));
}

std::string FrontendDetail(const std::string& name, const std::string& source) {
  nlohmann::json detail = {{"name", name}};
  if (!source.empty()) detail["source"] = source;
  return detail.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

BridgeClient::BridgeClient(const BridgeParts* parts, std::shared_ptr<Bridge> bridge,
                           const CancelToken& cancel)
    : parts_(parts),
      bridge_(std::move(bridge)),
      session_id_(bridge_->options().session_ids.empty() ? ""
                                                         : bridge_->options().session_ids.front()),
      cancel_(ended_.token()),
      by_caller_(cancel.OnCancel([this, cancel] { ended_.Cancel(cancel.status()); })),
      by_bridge_(bridge_->closed().OnCancel(
          [this, closed = bridge_->closed()] { ended_.Cancel(closed.status()); })) {}

BridgeClient::~BridgeClient() {
  ahead_ended_.Cancel();
  MutexLock lock(&mu_);
  for (std::thread& thread : ahead_) thread.join();
}

const std::map<std::string, std::string>& BridgeClient::opts() const {
  return bridge_->options().opts;
}
const std::map<std::string, std::string>& BridgeClient::inputs() const {
  return bridge_->options().inputs;
}
const std::string& BridgeClient::session_id() const { return session_id_; }

std::vector<std::string> BridgeClient::worker_platforms() const { return parts_->platforms(); }

absl::StatusOr<BridgeResult> BridgeClient::SolveGraph(const Solve& solve) {
  pb::Definition definition;
  if (!definition.ParseFromString(solve.definition))
    return absl::InvalidArgumentError("solve: malformed definition");
  const bool has_ops = definition.def_size() > 0;
  if (has_ops && !solve.frontend.empty())
    return absl::InvalidArgumentError("cannot solve with both Definition and Frontend specified");
  for (const Solve::CacheImport& import : solve.cache_imports)
    bridge_->ImportCache(import.type, import.attrs);
  BridgeResult result;
  if (!solve.frontend.empty()) {
    bridge_->NoteFrontend(solve.frontend, solve.frontend_opts);
    KILN_ASSIGN_OR_RETURN(result,
                          RunFrontend(*parts_, *bridge_, solve.frontend, solve.frontend_opts,
                                      solve.frontend_inputs, cancel_, solve.source_policies));
  } else {
    KILN_ASSIGN_OR_RETURN(result.ref,
                          bridge_->AddDefinition(solve.definition, has_ops, solve.source_policies));
  }
  if (solve.evaluate) {
    KILN_RETURN_IF_ERROR(bridge_->Evaluate(result.ref, cancel_).status());
    for (const auto& [platform, ref] : result.refs)
      KILN_RETURN_IF_ERROR(bridge_->Evaluate(ref, cancel_).status());
    for (const auto& [platform, attestations] : result.attestations)
      for (const BridgeAttestation& each : attestations)
        KILN_RETURN_IF_ERROR(bridge_->Evaluate(each.ref, cancel_).status());
  } else if (!solve.frontend.empty()) {
    // Whoever asked gets the answer first and wants the trees right after.
    bridge_->Begin(result.ref, Bridge::Begun::kKeys);
    for (const auto& [platform, ref] : result.refs) bridge_->Begin(ref, Bridge::Begun::kKeys);
  }
  return result;
}

void BridgeClient::Prefetch(absl::string_view ref) { bridge_->Begin(ref, Bridge::Begun::kWhole); }

absl::StatusOr<std::string> BridgeClient::DefinitionOf(absl::string_view ref) {
  if (ref.empty()) return "";
  return bridge_->DefinitionOf(ref);
}

absl::StatusOr<store::Layers> BridgeClient::Tree(absl::string_view ref, absl::string_view doing,
                                                 absl::string_view path) {
  if (ref.empty())
    return absl::NotFoundError(absl::StrCat(doing, " ", path, ": no such file or directory"));
  KILN_ASSIGN_OR_RETURN(const store::RefPtr tree, bridge_->Tree(ref, cancel_));
  return tree->Materialize(cancel_);
}

absl::StatusOr<std::string> BridgeClient::ReadFile(absl::string_view ref, absl::string_view path,
                                                   int64_t offset, int64_t length) {
  KILN_ASSIGN_OR_RETURN(const store::Layers tree, Tree(ref, "open", path));
  return ReadTreeFile(tree, path, offset, length);
}

absl::StatusOr<std::vector<fsutil::Stat>> BridgeClient::ReadDir(
    absl::string_view ref, absl::string_view path, const std::string& include_pattern) {
  KILN_ASSIGN_OR_RETURN(const store::Layers tree, Tree(ref, "read directory", path));
  return ReadTreeDir(tree, path, include_pattern);
}

absl::StatusOr<fsutil::Stat> BridgeClient::StatFile(absl::string_view ref, absl::string_view path) {
  KILN_ASSIGN_OR_RETURN(const store::Layers tree, Tree(ref, "lstat", path));
  return StatTreeFile(tree, path);
}

absl::Status BridgeClient::JudgeSource(SourceRef* source, absl::string_view platform,
                                       const std::vector<std::string>& policies) {
  KILN_ASSIGN_OR_RETURN(const auto judge, SourceJudge::With(bridge_->options().judge, policies));
  if (judge == nullptr) return absl::OkStatus();
  return Annotate(judge->Judge(source, platform, cancel_).status(),
                  "could not resolve image due to policy");
}

absl::StatusOr<FrontendClient::Image> BridgeClient::ResolveImage(const ImageRequest& request) {
  SourceRef source;
  source.identifier =
      absl::StrCat(request.oci_layout ? kOciLayoutScheme : kImageScheme, request.reference);
  if (!request.store_id.empty()) source.attrs["oci.store"] = request.store_id;
  if (!request.store_session_id.empty()) source.attrs["oci.session"] = request.store_session_id;
  pb::Platform platform;
  if (const std::vector<std::string> parts = absl::StrSplit(request.platform, '/');
      parts.size() > 1) {
    platform.set_os(parts[0]);
    platform.set_architecture(parts[1]);
    if (parts.size() > 2) platform.set_variant(parts[2]);
  }
  KILN_RETURN_IF_ERROR(JudgeSource(&source, platform.SerializeAsString(), request.source_policies));
  ImageRequest judged = request;
  absl::string_view reference = source.identifier;
  judged.oci_layout = absl::ConsumePrefix(&reference, kOciLayoutScheme);
  if (!judged.oci_layout && !absl::ConsumePrefix(&reference, kImageScheme))
    return absl::FailedPreconditionError(
        absl::StrCat("ref mutated by policy to non-image: ", kImageScheme, request.reference,
                     " -> ", source.identifier));
  judged.reference = std::string(reference);
  judged.store_id = Option(source.attrs, "oci.store");
  judged.store_session_id = Option(source.attrs, "oci.session");
  return FetchImage(judged);
}

void BridgeClient::ResolveAhead(const std::string& reference,
                                std::function<void(const absl::Status&)> done) {
  if (parts_->images == nullptr || bridge_->options().judge != nullptr) return;
  MutexLock lock(&mu_);
  if (ahead_.empty()) by_end_ = cancel_.OnCancel([this] { ahead_ended_.Cancel(); });
  ahead_.emplace_back([this, reference, done = std::move(done), over = ahead_ended_.token()] {
    const absl::Status status =
        parts_->images->ResolveAhead(reference, bridge_->options().job->values(), over);
    if (!over.Cancelled()) done(status);
  });
}

absl::StatusOr<FrontendClient::Image> BridgeClient::FetchImage(const ImageRequest& request) {
  if (parts_->images == nullptr)
    return absl::UnimplementedError(absl::StrCat("resolving the image ", request.reference,
                                                 " is not supported by this daemon"));
  ImageQuery query;
  query.reference = request.reference;
  query.platform = request.platform;
  query.resolve_mode = request.resolve_mode;
  query.oci_layout = request.oci_layout;
  query.store_id = request.store_id;
  query.store_session_id = request.store_session_id;
  query.no_config = request.no_config;
  query.attestation_chain = request.attestation_chain;
  query.predicate_types = request.predicate_types;
  query.session_ids = bridge_->options().session_ids;
  solver::Job& job = *bridge_->options().job;
  const std::string name =
      !request.log_name.empty()
          ? request.log_name
          : absl::StrCat("resolve image config for ",
                         request.oci_layout ? "oci-layout://" : "docker-image://",
                         request.reference);
  absl::StatusOr<ResolvedImage> image = absl::InternalError("not resolved");
  KILN_RETURN_IF_ERROR(
      job.RunStep(absl::StrCat(name, "\n", request.reference, "\n", request.platform), name,
                  [&](solver::ProgressSink& progress) {
                    query.log = [&progress](absl::string_view line) {
                      progress.Log({2, absl::StrCat(line, "\n"), absl::Now()});
                    };
                    image = parts_->images->Resolve(query, &job.values(), cancel_);
                    return image.status();
                  }));
  if (const auto asked = Reference::ParseFamiliar(request.reference);
      asked.ok() && !asked->digest.has_value())
    bridge_->NoteTag(asked->ToString());
  return Image{std::move(image->reference), image->digest, std::move(image->config),
               std::move(image->attestations)};
}

absl::StatusOr<FrontendClient::SourceFacts> BridgeClient::ResolveSource(
    absl::string_view source, const std::string& log_name) {
  pb::SourceOp op;
  if (!op.ParseFromArray(source.data(), static_cast<int>(source.size())))
    return absl::InvalidArgumentError("malformed source");
  SourceRef judged{op.identifier(), {op.attrs().begin(), op.attrs().end()}};
  KILN_RETURN_IF_ERROR(JudgeSource(&judged, "", {}));
  op.set_identifier(judged.identifier);
  op.clear_attrs();
  for (const auto& [key, value] : judged.attrs) (*op.mutable_attrs())[key] = value;
  KILN_ASSIGN_OR_RETURN(ResolvedSource resolved,
                        FetchSource(op.SerializeAsString(), log_name, {.git_objects = true}));
  return std::move(resolved.facts);
}

absl::StatusOr<ResolvedSource> BridgeClient::FetchSource(absl::string_view source,
                                                         const std::string& log_name,
                                                         const SourceQuestion& question) {
  const auto resolve = [&] { return parts_->resolve_source(*bridge_, source, question, cancel_); };
  if (log_name.empty()) return resolve();
  absl::StatusOr<ResolvedSource> facts = absl::InternalError("not resolved");
  KILN_RETURN_IF_ERROR(bridge_->options().job->RunStep(absl::StrCat(log_name, "\n", source),
                                                       log_name, [&](solver::ProgressSink&) {
                                                         facts = resolve();
                                                         return facts.status();
                                                       }));
  return facts;
}

absl::Status BridgeClient::Warn(const Digest& vertex, const solver::Warning& warning) {
  if (bridge_->options().warn) bridge_->options().warn(vertex, warning);
  return absl::OkStatus();
}

absl::Status BridgeClient::NewContainer(absl::string_view request) {
  if (parts_->containers == nullptr)
    return absl::UnimplementedError(
        "containers for frontends: this daemon has no OCI runtime to run them");
  return bridge_->containers().New(*parts_->containers, bridge_, request, cancel_);
}

absl::StatusOr<BridgeResult> RunFrontend(const BridgeParts& parts, Bridge& parent,
                                         const std::string& name,
                                         std::map<std::string, std::string> opts,
                                         std::map<std::string, std::string> inputs,
                                         const CancelToken& cancel,
                                         const std::vector<std::string>& policies) {
  const std::string source = Option(opts, kSourceOption);
  const std::string running = NamesBuiltIn(name, opts) ? kDockerfile : name;
  if (parts.frontends == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("invalid frontend: ", name));
  KILN_ASSIGN_OR_RETURN(Frontend * frontend, parts.frontends->Find(running));

  BridgeOptions options = parent.options();
  KILN_ASSIGN_OR_RETURN(options.judge, SourceJudge::With(options.judge, policies));
  options.opts = std::move(opts);
  options.inputs = std::move(inputs);
  const auto nested = std::make_shared<Bridge>(std::move(options));
  absl::StatusOr<BridgeResult> result;
  {
    BridgeClient client(&parts, nested, cancel);
    result = frontend->Run(client);
  }
  absl::Status outcome = result.ok() ? parent.Adopt(*nested, *result) : result.status();
  if (!outcome.ok()) parent.AdoptFailed(*nested);
  nested->Close(absl::NotFoundError("the frontend has ended"));
  if (outcome.ok()) return result;
  AddDetail(kFrontendDetail, FrontendDetail(running, source), &outcome);
  return outcome;
}

}  // namespace kiln::daemon
