#include "daemon/attest/statement.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/image/raw_json.h"
#include "proto/go_json.h"
#include "store/base/fd.h"
#include "store/base/query_escape.h"
#include "store/base/status_macros.h"
#include "store/tree.h"

namespace kiln::daemon {
namespace {

constexpr size_t kMaxBytes = 40 << 20;
constexpr absl::string_view kProvenance = "https://slsa.dev/provenance/";
constexpr char kStatementType[] = "https://in-toto.io/Statement/v1";

absl::StatusOr<std::string> ReadFile(const store::TreeReader& reader, const std::string& path) {
  KILN_ASSIGN_OR_RETURN(const std::string resolved, reader.Resolve(path, /*follow=*/true));
  KILN_ASSIGN_OR_RETURN(const Fd file, reader.Open(resolved));
  auto bytes = ReadAll(file.get(), kMaxBytes);
  if (bytes.ok()) return *std::move(bytes);
  return Annotate(bytes.status(), absl::StrCat("read attestation ", path));
}

absl::StatusOr<std::string> CompactPredicate(const std::string& text, const std::string& path) {
  if (text.empty()) return "null";
  if (nlohmann::json::accept(text)) return CompactJson(text);
  return absl::InvalidArgumentError(absl::StrCat("attestation ", path, " is not valid JSON"));
}

absl::StatusOr<std::vector<Attestation::Subject>> ReadSubjects(const std::string& text) {
  std::vector<Attestation::Subject> subjects;
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_null()) return subjects;
  const auto bad = [] {
    return absl::InvalidArgumentError("cannot decode in-toto statement: malformed subject");
  };
  if (!json.is_array()) return bad();
  for (const auto& item : json) {
    if (!item.is_object()) return bad();
    Attestation::Subject subject;
    subject.self = false;
    const auto name = item.find("name");
    if (name != item.end() && name->is_string()) subject.name = name->get<std::string>();
    const auto digests = item.find("digest");
    if (digests != item.end() && digests->is_object() && digests->contains("sha256")) {
      const auto& hex = (*digests)["sha256"];
      if (!hex.is_string()) return bad();
      KILN_ASSIGN_OR_RETURN(const Digest digest,
                            Digest::Parse(absl::StrCat("sha256:", hex.get<std::string>())));
      subject.digests.push_back(digest);
    }
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

// A file of a bundle: a whole statement.
absl::StatusOr<LoadedAttestation> ReadStatement(const Attestation& bundle, const std::string& text,
                                                const std::string& path) {
  const auto members = JsonMembers(text);
  if (!members.ok())
    return absl::InvalidArgumentError(
        absl::StrCat("cannot decode in-toto statement ", path, ": ", members.status().message()));
  LoadedAttestation out;
  out.predicate = "null";
  out.path = path;
  out.metadata = bundle.metadata;
  for (const auto& [name, value] : *members) {
    if (name == "predicate") {
      out.predicate = value;
    } else if (name == "predicateType") {
      const nlohmann::json type = nlohmann::json::parse(value, nullptr, false);
      if (!type.is_string())
        return absl::InvalidArgumentError(
            absl::StrCat("cannot decode in-toto statement ", path, ": no predicateType"));
      out.predicate_type = type.get<std::string>();
    } else if (name == "subject") {
      KILN_ASSIGN_OR_RETURN(out.subjects, ReadSubjects(value));
    }
  }
  if (!bundle.predicate_type.empty() && out.predicate_type != bundle.predicate_type)
    return absl::InvalidArgumentError(absl::StrCat("bundle entry ", out.predicate_type,
                                                   " does not match required predicate type ",
                                                   bundle.predicate_type));
  if (absl::StartsWith(out.predicate_type, kProvenance))
    return absl::InvalidArgumentError("frontend may not bundle provenance attestations");
  return out;
}

absl::Status Unbundle(const Attestation& bundle, const CancelToken& cancel,
                      std::vector<LoadedAttestation>* out) {
  if (bundle.tree == nullptr)
    return absl::InvalidArgumentError("no ref provided for attestation bundle");
  KILN_ASSIGN_OR_RETURN(store::Layers layers, bundle.tree->Materialize(cancel));
  const store::TreeReader reader(std::move(layers));
  KILN_ASSIGN_OR_RETURN(const std::string dir, reader.Resolve(bundle.path, /*follow=*/true));
  KILN_ASSIGN_OR_RETURN(const auto entries, reader.List(dir));
  for (const store::Entry& entry : entries) {
    if (cancel.Cancelled()) return cancel.status();
    const std::string path = store::JoinPath(dir, entry.name);
    KILN_ASSIGN_OR_RETURN(const std::string text, ReadFile(reader, path));
    KILN_ASSIGN_OR_RETURN(LoadedAttestation statement, ReadStatement(bundle, text, path));
    out->push_back(std::move(statement));
  }
  return absl::OkStatus();
}

absl::StatusOr<LoadedAttestation> LoadOne(const Attestation& attestation,
                                          const CancelToken& cancel) {
  // Only the daemon says where a build came from.
  if (attestation.tree != nullptr && absl::StartsWith(attestation.predicate_type, kProvenance))
    return absl::InvalidArgumentError("frontend may not set provenance attestations");
  LoadedAttestation out;
  out.predicate_type = attestation.predicate_type;
  out.path = attestation.path;
  out.subjects = attestation.subjects;
  out.metadata = attestation.metadata;
  std::string text = attestation.content;
  if (attestation.tree != nullptr) {
    KILN_ASSIGN_OR_RETURN(store::Layers layers, attestation.tree->Materialize(cancel));
    KILN_ASSIGN_OR_RETURN(text, ReadFile(store::TreeReader(std::move(layers)), attestation.path));
  }
  KILN_ASSIGN_OR_RETURN(out.predicate, CompactPredicate(text, attestation.path));
  return out;
}

void WriteSubject(const std::string& name, const std::vector<Digest>& digests, GoJson* json) {
  json->BeginObject().Key("name").String(name.empty() ? "_" : name);
  json->Key("digest").BeginObject();
  for (const Digest& digest : digests) json->Key("sha256").String(digest.hex());
  json->EndObject().EndObject();
}

}  // namespace

bool LoadedAttestation::is_core_sbom() const {
  const auto core = metadata.find("sbom-core");
  if (core == metadata.end()) return false;
  absl::string_view name = path;
  if (const size_t slash = name.rfind('/'); slash != absl::string_view::npos)
    name.remove_prefix(slash + 1);
  return name.substr(0, name.find('.')) == core->second;
}

absl::StatusOr<std::vector<LoadedAttestation>> LoadAttestations(
    const std::vector<Attestation>& attestations, const CancelToken& cancel) {
  std::vector<LoadedAttestation> loaded;
  for (const Attestation& attestation : attestations) {
    if (attestation.kind == Attestation::Kind::kBundle) {
      KILN_RETURN_IF_ERROR(Unbundle(attestation, cancel, &loaded));
    } else {
      KILN_ASSIGN_OR_RETURN(LoadedAttestation one, LoadOne(attestation, cancel));
      loaded.push_back(std::move(one));
    }
  }
  std::stable_partition(loaded.begin(), loaded.end(),
                        [](const LoadedAttestation& one) { return one.is_core_sbom(); });
  return loaded;
}

std::string StatementToJson(const LoadedAttestation& attestation,
                            const std::vector<StatementSubject>& self) {
  std::vector<Attestation::Subject> subjects = attestation.subjects;
  if (subjects.empty()) subjects.emplace_back();
  GoJson json;
  json.BeginObject().Key("_type").String(kStatementType);
  json.Key("predicateType").String(attestation.predicate_type);
  json.Key("subject").BeginArray();
  for (const Attestation::Subject& subject : subjects) {
    if (!subject.self) {
      WriteSubject(subject.name, subject.digests, &json);
      continue;
    }
    for (const StatementSubject& each : self) {
      WriteSubject(each.name, {each.digest}, &json);
      if (!subject.name.empty()) WriteSubject(subject.name, {each.digest}, &json);
    }
  }
  json.EndArray().Key("predicate").Raw(attestation.predicate).EndObject();
  return json.Take();
}

std::string ImagePurl(absl::string_view type, const Reference& reference,
                      const Platform* platform) {
  absl::string_view repository = reference.path;
  std::string familiar;
  if (reference.domain == "docker.io") {
    absl::ConsumePrefix(&repository, "library/");
    familiar = std::string(repository);
  } else {
    familiar = absl::StrCat(reference.domain, "/", repository);
  }
  std::vector<std::string> parts = absl::StrSplit(familiar, '/');
  for (std::string& part : parts) part = QueryEscape(part);
  std::string out = absl::StrCat("pkg:", type, "/", absl::StrJoin(parts, "/"));
  if (!reference.tag.empty()) absl::StrAppend(&out, "@", reference.tag);
  std::vector<std::string> qualifiers;
  if (reference.digest.has_value())
    qualifiers.push_back(absl::StrCat("digest=", QueryEscape(reference.digest->ToString())));
  if (platform != nullptr)
    qualifiers.push_back(
        absl::StrCat("platform=", QueryEscape(FormatPlatform(NormalizePlatform(*platform)))));
  if (!qualifiers.empty()) absl::StrAppend(&out, "?", absl::StrJoin(qualifiers, "&"));
  return out;
}

}  // namespace kiln::daemon
