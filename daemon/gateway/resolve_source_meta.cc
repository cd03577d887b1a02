#include "daemon/gateway/resolve_source_meta.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "proto/buildkit/gateway.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

namespace pbf = moby::buildkit::v1::frontend;

}  // namespace

std::string PlatformText(const pb::Platform& platform) {
  if (platform.os().empty() && platform.architecture().empty()) return "";
  std::string text = absl::StrCat(platform.os(), "/", platform.architecture());
  if (!platform.variant().empty()) absl::StrAppend(&text, "/", platform.variant());
  return text;
}

std::vector<std::string> SerializedPolicies(
    const google::protobuf::RepeatedPtrField<moby::buildkit::v1::sourcepolicy::Policy>& policies) {
  std::vector<std::string> out;
  for (const auto& policy : policies) out.push_back(policy.SerializeAsString());
  return out;
}

absl::Status ResolveSourceMeta(BridgeClient& client, const pbf::ResolveSourceMetaRequest& request,
                               pbf::ResolveSourceMetaResponse* response) {
  if (!request.has_source()) return absl::InvalidArgumentError("source is required");
  SourceRef judged{request.source().identifier(),
                   {request.source().attrs().begin(), request.source().attrs().end()}};
  KILN_RETURN_IF_ERROR(client.JudgeSource(&judged, request.platform().SerializeAsString(),
                                          SerializedPolicies(request.sourcepolicies())));
  pb::SourceOp& source = *response->mutable_source();
  source.set_identifier(judged.identifier);
  for (const auto& [key, value] : judged.attrs) (*source.mutable_attrs())[key] = value;
  absl::string_view reference = judged.identifier;
  const bool oci_layout = absl::ConsumePrefix(&reference, "oci-layout://");
  if (oci_layout || absl::ConsumePrefix(&reference, "docker-image://")) {
    if (request.image().attestationchain() || request.image().resolveattestations_size() > 0)
      return absl::UnimplementedError(
          "resolving the attestations of an image is not supported by this daemon yet");
    const auto attr = [&](const char* key) {
      const auto found = source.attrs().find(key);
      return found == source.attrs().end() ? std::string() : found->second;
    };
    FrontendClient::ImageRequest wanted;
    wanted.reference = std::string(reference);
    wanted.platform = PlatformText(request.platform());
    wanted.resolve_mode = request.resolvemode();
    wanted.log_name = request.logname();
    wanted.oci_layout = oci_layout;
    wanted.store_id = attr("oci.store");
    wanted.store_session_id = attr("oci.session");
    KILN_ASSIGN_OR_RETURN(FrontendClient::Image image, client.FetchImage(wanted));
    source.set_identifier(
        absl::StrCat(oci_layout ? "oci-layout://" : "docker-image://", image.reference));
    response->mutable_image()->set_digest(image.digest.ToString());
    if (!request.image().noconfig()) response->mutable_image()->set_config(std::move(image.config));
    return absl::OkStatus();
  }
  KILN_ASSIGN_OR_RETURN(const ResolvedSource resolved,
                        client.FetchSource(source.SerializeAsString(), request.logname(),
                                           request.git().returnobject()));
  const FrontendClient::SourceFacts& facts = resolved.facts;
  source.set_identifier(facts.identifier);
  source.clear_attrs();
  for (const auto& [key, value] : facts.attrs) (*source.mutable_attrs())[key] = value;
  if (absl::StartsWith(facts.identifier, "git://")) {
    response->mutable_git()->set_checksum(facts.checksum);
    response->mutable_git()->set_ref(facts.git_ref);
    response->mutable_git()->set_commitchecksum(facts.git_commit);
    response->mutable_git()->set_commitobject(resolved.git_commit_object);
    response->mutable_git()->set_tagobject(resolved.git_tag_object);
  } else if (absl::StartsWith(facts.identifier, "http")) {
    if (request.http().has_checksumrequest())
      return absl::UnimplementedError(
          "checksums of parts of a file are not supported by this daemon yet");
    response->mutable_http()->set_checksum(facts.checksum);
    response->mutable_http()->set_filename(facts.http_filename);
    if (facts.changed_unix_seconds)
      response->mutable_http()->mutable_lastmodified()->set_seconds(*facts.changed_unix_seconds);
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
