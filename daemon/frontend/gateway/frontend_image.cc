#include "daemon/frontend/gateway/frontend_image.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "daemon/registry/reference.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/status_details.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

using nlohmann::json;

constexpr char kCapsOption[] = "frontend.caps";
constexpr char kCapsLabel[] = "moby.buildkit.frontend.caps";
constexpr char kInputsCap[] = "moby.buildkit.frontend.inputs";
constexpr char kConfigKey[] = "containerimage.config";

std::string Option(const FrontendClient& client, const std::string& key) {
  const auto found = client.opts().find(key);
  return found == client.opts().end() ? "" : found->second;
}

// "a,b+more" -> {a, b}: what follows a plus is a wish.
std::set<std::string> Capabilities(absl::string_view list) {
  std::set<std::string> caps;
  for (absl::string_view one : absl::StrSplit(list, ',', absl::SkipEmpty())) {
    const absl::string_view name = absl::StripAsciiWhitespace(one.substr(0, one.find('+')));
    if (!name.empty()) caps.insert(std::string(name));
  }
  return caps;
}

// Strings of an array; anything else in its place is refused by name.
absl::Status ReadStrings(const json& config, const char* key, std::vector<std::string>* out) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return absl::OkStatus();
  const auto bad = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("image config of the frontend: ", key, " is no list of strings"));
  };
  if (!found->is_array()) return bad();
  std::vector<std::string> values;
  for (const json& item : *found) {
    if (!item.is_string()) return bad();
    values.push_back(item.get<std::string>());
  }
  if (!values.empty()) *out = std::move(values);
  return absl::OkStatus();
}

std::string ImageDefinition(const std::string& reference, const std::string& digest) {
  pb::Op source;
  std::string identifier = absl::StrCat("docker-image://", reference);
  if (!absl::StrContains(reference, '@')) absl::StrAppend(&identifier, "@", digest);
  source.mutable_source()->set_identifier(identifier);
  (*source.mutable_source()->mutable_attrs())["image.recordtype"] = "frontend";
  const std::string bytes = source.SerializeAsString();
  pb::Op last;
  last.add_inputs()->set_digest(Digest::Of(bytes).ToString());
  pb::Definition definition;
  definition.add_def(bytes);
  definition.add_def(last.SerializeAsString());
  return definition.SerializeAsString();
}

absl::StatusOr<FrontendImage> FromImage(FrontendClient& client, const std::string& name) {
  KILN_ASSIGN_OR_RETURN(const Reference reference, Reference::ParseFamiliar(name));
  FrontendClient::ImageRequest request;
  request.reference = reference.ToString();
  request.resolve_mode = Option(client, "image-resolve-mode");
  KILN_ASSIGN_OR_RETURN(const FrontendClient::Image found, client.ResolveImage(request));
  FrontendImage image;
  image.definition = ImageDefinition(found.reference, found.digest.ToString());
  KILN_RETURN_IF_ERROR(ApplyImageConfig(found.config, &image));
  return image;
}

// `input:NAME`: a definition of the client; its image config, if any, comes beside it.
absl::StatusOr<FrontendImage> FromInput(FrontendClient& client, const std::string& name) {
  FrontendImage image;
  const auto input = client.inputs().find(name);
  if (input == client.inputs().end())
    return absl::InvalidArgumentError(absl::StrCat("invalid input ", name, " for the frontend"));
  image.definition = input->second;
  const std::string metadata = Option(client, absl::StrCat("input-metadata:", name));
  if (metadata.empty()) return image;
  const json parsed = json::parse(metadata, nullptr, false);
  const auto bad = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("option input-metadata:", name, ": ", why));
  };
  if (!parsed.is_object()) return bad("not a JSON object");
  const auto config = parsed.find(kConfigKey);
  if (config == parsed.end()) return image;
  std::string bytes;
  if (!config->is_string() || !absl::Base64Unescape(config->get<std::string>(), &bytes))
    return bad(absl::StrCat(kConfigKey, " is not base64"));
  KILN_RETURN_IF_ERROR(ApplyImageConfig(bytes, &image));
  return image;
}

// What the client gives in place of an image; "" for nothing. Its name may be short or whole.
std::string NamedContext(const FrontendClient& client, const std::string& source) {
  std::vector<std::string> names = {source};
  if (const auto reference = Reference::ParseFamiliar(source); reference.ok()) {
    names.push_back(reference->Familiar());
    names.emplace_back(absl::StripSuffix(reference->Familiar(), ":latest"));
    names.push_back(reference->ToString());
  }
  for (const std::string& name : names)
    if (std::string value = Option(client, absl::StrCat("context:", name)); !value.empty())
      return value;
  return "";
}

}  // namespace

absl::Status ApplyImageConfig(const std::string& text, FrontendImage* image) {
  const json parsed = json::parse(text, nullptr, false);
  if (!parsed.is_object())
    return absl::InvalidArgumentError("image config of the frontend: not a JSON object");
  image->has_config = true;
  const auto config = parsed.find("config");
  if (config == parsed.end() || !config->is_object()) return absl::OkStatus();
  KILN_RETURN_IF_ERROR(ReadStrings(*config, "Entrypoint", &image->entrypoint));
  KILN_RETURN_IF_ERROR(ReadStrings(*config, "Env", &image->env));
  const auto cwd = config->find("WorkingDir");
  if (cwd != config->end() && cwd->is_string() && !cwd->get<std::string>().empty())
    image->cwd = cwd->get<std::string>();
  const auto labels = config->find("Labels");
  if (labels == config->end() || !labels->is_object()) return absl::OkStatus();
  for (const auto& [key, value] : labels->items())
    if (value.is_string()) image->labels[key] = value.get<std::string>();
  return absl::OkStatus();
}

absl::StatusOr<FrontendImage> FindFrontendImage(FrontendClient& client, const std::string& source) {
  const std::string context = NamedContext(client, source);
  if (context.empty()) return FromImage(client, source);
  absl::string_view value = context;
  if (absl::ConsumePrefix(&value, "input:")) return FromInput(client, std::string(value));
  if (absl::ConsumePrefix(&value, "docker-image://")) return FromImage(client, std::string(value));
  return absl::UnimplementedError(
      absl::StrCat("a frontend from the context ", context, " is not supported by this daemon"));
}

absl::Status CheckFrontendCaps(const FrontendClient& client, const FrontendImage& image) {
  if (!image.has_config) return absl::OkStatus();
  std::set<std::string> wanted = Capabilities(Option(client, kCapsOption));
  if (!client.inputs().empty()) wanted.insert(kInputsCap);
  const auto label = image.labels.find(kCapsLabel);
  const std::set<std::string> offered =
      Capabilities(label == image.labels.end() ? "" : label->second);
  for (const std::string& cap : wanted) {
    if (offered.contains(cap)) continue;
    absl::Status status =
        absl::UnimplementedError(absl::StrCat("unsupported frontend capability ", cap));
    AddDetail(kFrontendCapDetail,
              json({{"name", cap}}).dump(-1, ' ', false, json::error_handler_t::replace), &status);
    return status;
  }
  return absl::OkStatus();
}

}  // namespace kiln::daemon
