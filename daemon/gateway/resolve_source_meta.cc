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

constexpr size_t kMaxSuffix = 4096;

void WriteChain(const AttestationChain& chain, pbf::AttestationChain* out) {
  const auto text = [](const Digest& digest) {
    return digest.empty() ? std::string() : digest.ToString();
  };
  out->set_root(text(chain.root));
  out->set_imagemanifest(text(chain.image_manifest));
  out->set_attestationmanifest(text(chain.attestation_manifest));
  for (const Digest& signature : chain.signature_manifests)
    out->add_signaturemanifests(text(signature));
  for (const auto& [digest, blob] : chain.blobs) {
    pbf::Blob& to = (*out->mutable_blobs())[text(digest)];
    pbf::Descriptor& descriptor = *to.mutable_blob_descriptor();
    descriptor.set_media_type(blob.descriptor.media_type);
    descriptor.set_digest(text(digest));
    descriptor.set_size(static_cast<int64_t>(blob.bytes.size()));
    descriptor.mutable_annotations()->insert(blob.descriptor.annotations.begin(),
                                             blob.descriptor.annotations.end());
    to.set_data(blob.bytes);
  }
}

absl::StatusOr<ChecksumQuestion> ReadQuestion(const pbf::ChecksumRequest& request) {
  ChecksumQuestion question;
  if (request.suffix().size() > kMaxSuffix)
    return absl::InvalidArgumentError(
        absl::StrCat("http checksum request suffix exceeds max size ", kMaxSuffix));
  question.suffix = request.suffix();
  switch (request.algo()) {
    case pbf::ChecksumRequest::CHECKSUM_ALGO_SHA256:
      question.algorithm = FileHash::kSha256;
      return question;
    case pbf::ChecksumRequest::CHECKSUM_ALGO_SHA384:
      question.algorithm = FileHash::kSha384;
      return question;
    case pbf::ChecksumRequest::CHECKSUM_ALGO_SHA512:
      question.algorithm = FileHash::kSha512;
      return question;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("unsupported checksum algorithm ", static_cast<int>(request.algo())));
  }
}

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
    wanted.no_config = request.image().noconfig();
    wanted.predicate_types.assign(request.image().resolveattestations().begin(),
                                  request.image().resolveattestations().end());
    wanted.attestation_chain =
        request.image().attestationchain() || !wanted.predicate_types.empty();
    KILN_ASSIGN_OR_RETURN(FrontendClient::Image image, client.FetchImage(wanted));
    source.set_identifier(
        absl::StrCat(oci_layout ? "oci-layout://" : "docker-image://", image.reference));
    response->mutable_image()->set_digest(image.digest.ToString());
    response->mutable_image()->set_config(std::move(image.config));
    if (image.attestations != nullptr)
      WriteChain(*image.attestations, response->mutable_image()->mutable_attestationchain());
    return absl::OkStatus();
  }
  SourceQuestion question;
  question.git_objects = request.git().returnobject();
  if (request.http().has_checksumrequest() && absl::StartsWith(judged.identifier, "http")) {
    KILN_ASSIGN_OR_RETURN(question.checksum, ReadQuestion(request.http().checksumrequest()));
  }
  KILN_ASSIGN_OR_RETURN(
      const ResolvedSource resolved,
      client.FetchSource(source.SerializeAsString(), request.logname(), question));
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
    response->mutable_http()->set_checksum(facts.checksum);
    response->mutable_http()->set_filename(facts.http_filename);
    if (facts.changed_unix_seconds)
      response->mutable_http()->mutable_lastmodified()->set_seconds(*facts.changed_unix_seconds);
    if (question.checksum.has_value()) {
      pbf::ChecksumResponse& checksum = *response->mutable_http()->mutable_checksumresponse();
      checksum.set_digest(resolved.asked_checksum);
      checksum.set_suffix(question.checksum->suffix);
    }
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
