#include "daemon/frontend/dockerfile/named_context.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/llb/from_definition.h"
#include "client/llb/source.h"
#include "daemon/frontend/dockerfile/llb_platform.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/ignore_file.h"
#include "daemon/registry/reference.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

namespace llb = client::llb;

constexpr char kIgnoreFile[] = ".dockerignore";

llb::Constraints Step(const NamedContext& context, absl::string_view what) {
  return llb::Named(absl::StrCat("[context ", context.label, "] ", what));
}

absl::StatusOr<DockerImage> ParseImage(const NamedContext& context, absl::string_view config) {
  KILN_ASSIGN_OR_RETURN(DockerImage image,
                        Annotate(DockerImage::Parse(config),
                                 absl::StrCat("failed to parse image config for ", context.label)));
  image.created.reset();
  return image;
}

// The image config in an input's metadata; nullopt without one.
absl::StatusOr<std::optional<std::string>> ConfigOfInput(const std::string& metadata) {
  try {
    const nlohmann::json json = nlohmann::json::parse(metadata);
    const auto config = json.find("containerimage.config");
    if (config == json.end() || config->is_null()) return std::nullopt;
    std::string bytes;
    if (absl::Base64Unescape(config->get<std::string>(), &bytes)) return bytes;
    return absl::InvalidArgumentError("containerimage.config is not base64");
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(
        absl::StrCat("failed to parse input metadata ", metadata, ": ", e.what()));
  }
}

}  // namespace

llb::State WithImage(llb::State state, const DockerImage& image) {
  for (const std::string& entry : image.env) {
    const size_t equals = entry.find('=');
    const std::string key = entry.substr(0, equals);
    if (key.empty()) continue;
    state = state.AddEnv(key, equals == std::string::npos ? "" : entry.substr(equals + 1));
  }
  if (!image.working_dir.empty()) state = state.Dir(image.working_dir);
  if (!image.platform.architecture.empty() && !image.platform.os.empty()) {
    state = state.WithPlatform(ToLlb(image.platform));
  }
  return state;
}

absl::StatusOr<std::optional<NamedContext>> FindNamedContext(const FrontendClient& client,
                                                             absl::string_view name,
                                                             const Platform& platform) {
  if (absl::EqualsIgnoreCase(name, "scratch") || absl::EqualsIgnoreCase(name, "context")) {
    return std::nullopt;
  }
  const auto reference = Reference::ParseFamiliar(name);
  if (!reference.ok()) {
    return Annotate(reference.status(), absl::StrCat("invalid context name ", name));
  }
  NamedContext context;
  const std::string familiar = reference->Familiar();
  context.name = std::string(absl::StripSuffix(familiar, ":latest"));
  context.platform = platform;
  for (const std::string& label :
       {absl::StrCat(context.name, "::", FormatPlatform(NormalizePlatform(platform))),
        context.name}) {
    const auto found = client.opts().find(absl::StrCat("context:", label));
    if (found == client.opts().end()) continue;
    context.label = label;
    context.value = found->second;
    return context;
  }
  return std::nullopt;
}

absl::StatusOr<LoadedContext> NamedContextLoader::Load(const NamedContext& context,
                                                       BuildSources::NeededPaths needed) {
  const absl::string_view value = context.value;
  const size_t colon = value.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid context specifier ", value, " for ", context.label));
  }
  const absl::string_view kind = value.substr(0, colon);
  const absl::string_view rest = value.substr(colon + 1);
  const bool web = kind == "http" || kind == "https";
  if (kind == "docker-image") return LoadImage(context, absl::StripPrefix(rest, "//"));
  if (kind == "oci-layout") return LoadOciLayout(context, absl::StripPrefix(rest, "//"));
  if (kind == "local") return LoadLocal(context, std::string(rest), std::move(needed));
  if (kind == "input") return LoadInput(context, std::string(rest));
  // Without a scheme, for ssh: git@host:path.
  if (web || kind == "git" || absl::StartsWith(kind, "git@")) {
    KILN_ASSIGN_OR_RETURN(const std::optional<llb::State> git,
                          GitContext(context.value, std::nullopt, false));
    if (git) return LoadedContext{*git, std::nullopt};
    if (!web) return absl::InvalidArgumentError(absl::StrCat("invalid git context ", value));
    llb::HttpInfo info;
    info.filename = "context";
    info.constraints = Step(context, value);
    return LoadedContext{llb::Http(value, std::move(info)), std::nullopt};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unsupported context source ", kind, " for ", context.label));
}

absl::StatusOr<LoadedContext> NamedContextLoader::LoadImage(const NamedContext& context,
                                                            absl::string_view value) {
  if (value == "scratch") return LoadedContext();
  KILN_ASSIGN_OR_RETURN(const Reference reference, Reference::ParseFamiliar(value));
  FrontendClient::ImageRequest request;
  request.reference = reference.ToString();
  request.platform = FormatPlatform(context.platform);
  request.resolve_mode = resolve_mode_;
  request.log_name = absl::StrCat("[context ", context.label, "] load metadata for ", value);
  KILN_ASSIGN_OR_RETURN(const FrontendClient::Image resolved, images_->Resolve(request));
  KILN_ASSIGN_OR_RETURN(DockerImage image, ParseImage(context, resolved.config));
  llb::ImageInfo info;
  info.constraints = Step(context, value);
  info.constraints.platform = ToLlb(context.platform);
  // Not pinned to the digest, as BuildKit does not: the cache keys must be the same.
  llb::State state = llb::Image(resolved.reference, std::move(info));
  return LoadedContext{WithImage(std::move(state), image), std::move(image)};
}

absl::StatusOr<LoadedContext> NamedContextLoader::LoadOciLayout(const NamedContext& context,
                                                                absl::string_view value) {
  const size_t at = value.find('@');
  absl::string_view store = value.substr(0, at);
  if (const size_t tag = store.find(':', store.rfind('/') + 1); tag != absl::string_view::npos) {
    store = store.substr(0, tag);
  }
  if (store.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("oci-layout reference ", Quote(value), " has no name"));
  }
  if (at == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("oci-layout reference ", Quote(value), " has no digest"));
  }
  const auto digest = Digest::Parse(value.substr(at + 1));
  if (!digest.ok()) {
    return Annotate(digest.status(),
                    absl::StrCat("could not parse oci-layout reference ", Quote(value)));
  }
  // Named after the context: the store's name says nothing to anyone.
  KILN_ASSIGN_OR_RETURN(
      Reference reference,
      Annotate(Reference::ParseFamiliar(context.name),
               absl::StrCat("could not parse oci-layout reference ", Quote(context.name))));
  const size_t tag = context.name.find(':', context.name.rfind('/') + 1);
  const std::string shown =
      absl::StrCat(tag == std::string::npos ? reference.Repository() : reference.ToString(), "@",
                   digest->ToString());
  FrontendClient::ImageRequest request;
  request.reference = shown;
  request.platform = FormatPlatform(context.platform);
  request.log_name = absl::StrCat("[context ", context.label, "] load metadata for ", shown);
  request.oci_layout = true;
  request.store_id = std::string(store);
  request.store_session_id = sources_->client().session_id();
  KILN_ASSIGN_OR_RETURN(const FrontendClient::Image resolved, images_->Resolve(request));
  KILN_ASSIGN_OR_RETURN(DockerImage image, ParseImage(context, resolved.config));
  llb::OciLayoutInfo info;
  info.session_id = request.store_session_id;
  info.store_id = request.store_id;
  info.constraints = Step(context, "OCI load from client");
  info.constraints.platform = ToLlb(context.platform);
  llb::State state = llb::OciLayout(shown, std::move(info));
  return LoadedContext{WithImage(std::move(state), image), std::move(image)};
}

absl::StatusOr<LoadedContext> NamedContextLoader::LoadLocal(const NamedContext& context,
                                                            const std::string& local,
                                                            BuildSources::NeededPaths needed) {
  llb::LocalInfo probe;
  probe.follow_paths = {kIgnoreFile};
  probe.shared_key_hint = absl::StrCat("context:", context.label, "-", kIgnoreFile);
  probe.constraints = Step(context, absl::StrCat("load ", kIgnoreFile));
  KILN_ASSIGN_OR_RETURN(const std::string ref,
                        sources_->LoadFiles(local, std::move(probe), /*evaluate=*/true));
  llb::LocalInfo info;
  const auto ignored = sources_->client().ReadFile(ref, kIgnoreFile, 0, -1);
  if (ignored.ok()) {
    KILN_ASSIGN_OR_RETURN(
        info.exclude_patterns,
        Annotate(ParseIgnoreFile(*ignored), absl::StrCat("failed parsing ", kIgnoreFile)));
  }
  const auto& opts = sources_->client().opts();
  const auto shared = opts.find(absl::StrCat("sharedkey:localdir:", context.label));
  info.session_id = sources_->SessionOf(local);
  info.shared_key_hint =
      absl::StrCat("context:", context.label, "-", shared == opts.end() ? "" : shared->second);
  info.constraints = Step(context, "load from client");
  return LoadedContext{
      llb::DeferredSource([local, info = std::move(info), needed = std::move(needed)] {
        llb::LocalInfo now = info;
        now.follow_paths = needed();
        return llb::Local(local, std::move(now));
      }),
      std::nullopt};
}

absl::StatusOr<LoadedContext> NamedContextLoader::LoadInput(const NamedContext& context,
                                                            const std::string& input) {
  const auto& inputs = sources_->client().inputs();
  const auto given = inputs.find(input);
  if (given == inputs.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("invalid input ", input, " for ", context.label));
  }
  LoadedContext loaded;
  KILN_ASSIGN_OR_RETURN(
      loaded.state, Annotate(llb::FromDefinition(given->second), absl::StrCat("input ", input)));
  const auto& opts = sources_->client().opts();
  const auto metadata = opts.find(absl::StrCat("input-metadata:", input));
  if (metadata == opts.end()) return loaded;
  KILN_ASSIGN_OR_RETURN(const std::optional<std::string> config, ConfigOfInput(metadata->second));
  if (!config) return loaded;
  KILN_ASSIGN_OR_RETURN(loaded.image, ParseImage(context, *config));
  loaded.state = WithImage(std::move(loaded.state), *loaded.image);
  return loaded;
}

}  // namespace kiln::daemon::dockerfile
