#include "daemon/attest/build_facts.h"

#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/attest/json_text.h"
#include "daemon/attest/statement.h"
#include "daemon/image/platform.h"
#include "daemon/registry/reference.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/kiln/build_steps.pb.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

using Json = nlohmann::ordered_json;

// What the one field of a message is as JSON, with the names of the .proto; `otherwise` when it is
// empty. Many messages go into one, as each call looks up all their types, which takes longer than
// to write them.
std::string FieldJson(const google::protobuf::Message& message, absl::string_view name,
                      absl::string_view otherwise) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  const std::string before = absl::StrCat("{\"", name, "\":");
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok() ||
      !absl::StartsWith(text, before))
    return std::string(otherwise);
  return text.substr(before.size(), text.size() - before.size() - 1);
}

void AddOptional(const std::string& id, bool optional, std::map<std::string, bool>* out) {
  const auto [entry, added] = out->emplace(id, optional);
  if (!added) entry->second = entry->second && optional;
}

class Reading {
 public:
  Reading(const SourcePins& pins, const std::set<std::string>& tags, BuildFacts* facts)
      : pins_(pins), tags_(tags), facts_(*facts) {}

  void Exec(const pb::ExecOp& exec) {
    facts_.network |= exec.network() != pb::NetMode::NONE;
    for (const pb::SecretEnv& secret : exec.secretenv())
      AddOptional(secret.id(), secret.optional(), &facts_.secrets);
    for (const pb::Mount& mount : exec.mounts()) {
      if (mount.mounttype() == pb::MountType::SECRET)
        AddOptional(mount.secretopt().id(), mount.secretopt().optional(), &facts_.secrets);
      if (mount.mounttype() == pb::MountType::SSH)
        AddOptional(mount.sshopt().id(), mount.sshopt().optional(), &facts_.ssh);
    }
  }

  void Source(const pb::Op& op, const Digest& vertex) {
    absl::string_view rest = op.source().identifier();
    const size_t colon = rest.find("://");
    if (colon == absl::string_view::npos) return;
    const std::string scheme(rest.substr(0, colon));
    rest.remove_prefix(colon + 3);
    const std::string pin = pins_.Find(vertex);
    if (scheme == "local") {
      facts_.locals.insert(std::string(rest));
    } else if (absl::StartsWith(scheme, "docker-image") || absl::StartsWith(scheme, "oci-layout")) {
      Image(op, scheme, rest, pin);
    } else if (scheme == "git") {
      Git(op.source(), rest, pin);
    } else if (scheme == "http" || scheme == "https") {
      const auto checksum = op.source().attrs().find("http.checksum");
      Add(RedactCredentials(op.source().identifier()),
          checksum == op.source().attrs().end() ? pin : checksum->second);
    }
  }

 private:
  void Add(const std::string& uri, absl::string_view digest) {
    BuildDependency dependency;
    dependency.uri = uri;
    if (absl::ConsumePrefix(&digest, "sha256:")) {
      dependency.algorithm = "sha256";
      dependency.hex = std::string(digest);
    } else if (digest.size() == 40 || digest.size() == 64) {
      dependency.algorithm = digest.size() == 40 ? "sha1" : "sha256";  // a commit
      dependency.hex = std::string(digest);
    } else {
      facts_.unpinned.push_back(uri);
    }
    facts_.dependencies.insert(std::move(dependency));
  }

  void Image(const pb::Op& op, const std::string& scheme, absl::string_view name,
             const std::string& pin) {
    auto reference = Reference::ParseFamiliar(name);
    if (!reference.ok()) {
      facts_.unpinned.push_back(op.source().identifier());
      return;
    }
    const std::string digest = reference->digest.has_value() ? reference->digest->ToString() : pin;
    Reference by_tag = *reference;
    by_tag.digest.reset();
    if (!by_tag.tag.empty() && tags_.contains(by_tag.ToString())) *reference = std::move(by_tag);
    Platform platform;
    platform.os = op.platform().os();
    platform.architecture = op.platform().architecture();
    platform.variant = op.platform().variant();
    std::string uri = ImagePurl(absl::StartsWith(scheme, "oci") ? "oci" : "docker", *reference,
                                platform.os.empty() ? nullptr : &platform);
    if (absl::EndsWith(scheme, "+blob"))
      absl::StrAppend(&uri, absl::StrContains(uri, "?") ? "&" : "?", "ref_type=blob");
    Add(uri, digest);
  }

  void Git(const pb::SourceOp& source, absl::string_view rest, const std::string& pin) {
    const auto full = source.attrs().find("git.fullurl");
    absl::string_view fragment;
    if (const size_t hash = rest.find('#'); hash != absl::string_view::npos) {
      fragment = rest.substr(hash);
      rest = rest.substr(0, hash);
    }
    const std::string url =
        full != source.attrs().end() ? full->second : absl::StrCat("https://", rest);
    Add(absl::StrCat(RedactCredentials(url), fragment), pin);
  }

  const SourcePins& pins_;
  const std::set<std::string>& tags_;
  BuildFacts& facts_;
};

}  // namespace

std::string RedactCredentials(absl::string_view uri) {
  const size_t colon = uri.find("://");
  if (colon == absl::string_view::npos) return std::string(uri);
  const absl::string_view rest = uri.substr(colon + 3);
  const size_t end = rest.find_first_of("/?#");
  const size_t at = rest.substr(0, end).rfind('@');
  if (at == absl::string_view::npos) return std::string(uri);
  const bool password = absl::StrContains(rest.substr(0, at), ":");
  return absl::StrCat(uri.substr(0, colon + 3), password ? "xxxxx:xxxxx@" : "xxxxx@",
                      rest.substr(at + 1));
}

absl::StatusOr<BuildFacts> ReadBuildFacts(absl::string_view bytes, const SourcePins& pins,
                                          const std::set<std::string>& tags) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return absl::InvalidArgumentError("provenance: malformed definition");
  BuildFacts facts;
  Reading reading(pins, tags, &facts);
  attest::BuildSteps steps;
  Json mapping = Json::object();
  std::map<std::string, std::string> step_of;  // digest -> "stepN"
  for (const std::string& op_bytes : definition.def()) {
    const Digest digest = Digest::Of(op_bytes);
    const std::string name = digest.ToString();
    if (step_of.contains(name)) continue;
    pb::Op op;
    if (!op.ParseFromString(op_bytes))
      return absl::InvalidArgumentError("provenance: malformed op in the definition");
    if (op.op_case() == pb::Op::OP_NOT_SET) continue;  // only names the result
    const std::string id = absl::StrCat("step", step_of.size());
    step_of.emplace(name, id);
    mapping[name] = id;
    attest::BuildStep& step = *steps.add_llbdefinition();
    step.set_id(id);
    for (const pb::Input& input : op.inputs())
      step.add_inputs(absl::StrCat(step_of[input.digest()], ":", input.index()));
    if (op.has_exec()) reading.Exec(op.exec());
    if (op.has_source()) {
      reading.Source(op, digest);
      // Only one session knows them.
      op.mutable_source()->mutable_attrs()->erase("local.session");
      op.mutable_source()->mutable_attrs()->erase("local.unique");
      op.mutable_source()->set_identifier(RedactCredentials(op.source().identifier()));
      for (auto& [key, value] : *op.mutable_source()->mutable_attrs())
        if (key == "git.fullurl") value = RedactCredentials(value);
    }
    op.clear_inputs();
    step.mutable_op()->Swap(&op);
  }
  facts.build_config = JsonText()
                           .AddText("llbDefinition", FieldJson(steps, "llbDefinition", "[]"))
                           .Add("digestMapping", mapping)
                           .Take();
  if (!definition.has_source()) return facts;
  attest::StepLocations locations;
  Json infos = Json::array();
  for (const auto& [digest, list] : definition.source().locations()) {
    const auto step = step_of.find(digest);
    if (step != step_of.end()) (*locations.mutable_locations())[step->second] = list;
  }
  for (const pb::SourceInfo& info : definition.source().infos())
    infos.push_back({{"filename", info.filename()},
                     {"language", info.language()},
                     {"data", absl::Base64Escape(info.data())}});
  facts.source = JsonText()
                     .AddText("locations", FieldJson(locations, "locations", "{}"))
                     .Add("infos", infos)
                     .Take();
  return facts;
}

}  // namespace kiln::daemon
