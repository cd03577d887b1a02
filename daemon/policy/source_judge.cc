#include "daemon/policy/source_judge.h"

#include <grpcpp/channel.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/session/session_call.h"
#include "proto/buildkit/policysession.grpc.pb.h"
#include "proto/go_json.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace pbv = moby::buildkit::v1::sourcepolicy::policysession;
namespace pbp = moby::buildkit::v1::sourcepolicy;

constexpr int kMostRequests = 10;

void ToProto(const SourceRef& source, pb::SourceOp* op) {
  op->set_identifier(source.identifier);
  op->clear_attrs();
  for (const auto& [key, value] : source.attrs) (*op->mutable_attrs())[key] = value;
}

SourceRef FromProto(const pb::SourceOp& op) {
  return {op.identifier(), {op.attrs().begin(), op.attrs().end()}};
}

// The verifier's session may come late, and the build waits for it.
absl::StatusOr<SessionPtr> WaitForSession(const SourceJudge::Verifier& verifier,
                                          const CancelToken& cancel) {
  for (;;) {
    absl::StatusOr<SessionPtr> session = verifier.sessions->Get(verifier.session_id, cancel);
    if (!absl::IsNotFound(session.status())) return session;
    KILN_RETURN_IF_ERROR(cancel.status());
  }
}

absl::Status Refusal(const SourceRef& source, const pbv::DecisionResponse& decision) {
  absl::Status status = absl::PermissionDeniedError(absl::StrCat(
      "source \"", source.identifier, "\" not allowed by policy: action ",
      pbp::PolicyAction_IsValid(decision.action()) ? pbp::PolicyAction_Name(decision.action())
                                                   : absl::StrCat(decision.action())));
  if (decision.denymessages().empty()) return status;
  GoJson json;
  json.BeginObject().Key("action").Int(pbp::DENY).Key("denyMessages").BeginArray();
  for (const pbv::DenyMessage& message : decision.denymessages())
    json.BeginObject().Key("message").String(message.message()).EndObject();
  AddDetail(kPolicyDetail, json.EndArray().EndObject().Take(), &status);
  return status;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SourceJudge>> SourceJudge::Create(
    std::vector<std::string> policies, std::shared_ptr<const Verifier> verifier) {
  std::shared_ptr<SourceJudge> made(new SourceJudge());
  KILN_ASSIGN_OR_RETURN(made->rules_, SourcePolicy::Create(policies));
  made->policies_ = std::move(policies);
  made->verifier_ = std::move(verifier);
  return std::shared_ptr<const SourceJudge>(std::move(made));
}

absl::StatusOr<std::shared_ptr<const SourceJudge>> SourceJudge::With(
    std::shared_ptr<const SourceJudge> base, const std::vector<std::string>& policies) {
  if (policies.empty()) return base;
  std::vector<std::string> all;
  if (base != nullptr) all = base->policies_;
  all.insert(all.end(), policies.begin(), policies.end());
  return Create(std::move(all), base == nullptr ? nullptr : base->verifier_);
}

absl::StatusOr<bool> SourceJudge::Judge(SourceRef* source, absl::string_view platform,
                                        const CancelToken& cancel) const {
  const SourceRef original = *source;
  source->identifier = NormalizedIdentifier(original);
  const std::string normalized = source->identifier;
  KILN_RETURN_IF_ERROR(rules_->Apply(source).status());
  if (verifier_ != nullptr) KILN_RETURN_IF_ERROR(Verify(source, platform, cancel));
  // The long form was for the rules only.
  if (source->identifier == normalized) source->identifier = original.identifier;
  return !(*source == original);
}

absl::Status SourceJudge::Verify(SourceRef* source, absl::string_view platform,
                                 const CancelToken& cancel) const {
  KILN_ASSIGN_OR_RETURN(const SessionPtr session, WaitForSession(*verifier_, cancel));
  const auto stub = pbv::PolicyVerifier::NewStub(session->channel());
  pbv::CheckPolicyRequest request;
  if (!platform.empty()) request.mutable_platform()->ParseFromString(std::string(platform));
  ToProto(*source, request.mutable_source()->mutable_source());
  for (int i = 0; i < kMostRequests; ++i) {
    pbv::CheckPolicyResponse response;
    {
      SessionCall call(*session, cancel);
      KILN_RETURN_IF_ERROR(call.ToStatus(stub->CheckPolicy(call.context(), request, &response)));
    }
    if (response.has_request()) {
      const SourceRef asked = FromProto(response.request().source());
      if (asked.identifier != source->identifier)
        return absl::InvalidArgumentError(
            absl::StrCat("policy requested different source identifier: \"", asked.identifier,
                         "\" != \"", source->identifier, "\""));
      if (asked.attrs != source->attrs)
        return absl::InvalidArgumentError("policy requested different source attrs");
      KILN_ASSIGN_OR_RETURN(
          const std::string facts,
          Annotate(verifier_->resolve(response.request().SerializeAsString(), cancel),
                   "error resolving source metadata from policy request"));
      request.mutable_source()->ParseFromString(facts);
      continue;
    }
    if (!response.has_decision())
      return absl::InvalidArgumentError("no decision in policy response");
    const pbv::DecisionResponse& decision = response.decision();
    if (decision.action() == pbp::ALLOW) return absl::OkStatus();
    if (decision.action() != pbp::CONVERT) return Refusal(*source, decision);
    if (!decision.has_update())
      return absl::InvalidArgumentError("convert action requires updated source");
    // What it became is judged anew.
    *source = FromProto(decision.update());
    source->identifier = NormalizedIdentifier(*source);
    KILN_RETURN_IF_ERROR(rules_->Apply(source).status());
    request.clear_source();
    ToProto(*source, request.mutable_source()->mutable_source());
  }
  return absl::InvalidArgumentError("too many policy requests");
}

}  // namespace kiln::daemon
