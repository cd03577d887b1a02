#include "client/llb/source.h"

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/llb/go_path.h"
#include "client/llb/op_draft.h"
#include "client/llb/vertex.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::client::llb {
namespace {

using Attrs = std::map<std::string, std::string>;

class SourceVertex : public Vertex {
 public:
  SourceVertex(std::string identifier, Attrs attrs, Constraints constraints)
      : identifier_(std::move(identifier)),
        attrs_(std::move(attrs)),
        local_unique_id_(std::move(constraints.local_unique_id)),
        traits_(std::move(constraints)) {}

  // Null when none was asked for.
  const std::shared_ptr<const Platform>& platform() const { return traits_.platform; }

  Inputs inputs() const override { return {}; }

  absl::StatusOr<Digest> Write(GraphWriter& graph) const override {
    if (!absl::StrContains(identifier_, "://")) {
      return absl::InvalidArgumentError(absl::StrCat("source \"", identifier_, "\" has no scheme"));
    }
    Attrs attrs = attrs_;
    CapSet caps;
    if (absl::StartsWith(identifier_, "local://") && attrs.count("local.session") == 0) {
      attrs["local.unique"] =
          local_unique_id_.empty() ? graph.defaults().local_unique_id : local_unique_id_;
      caps.Add("source.local.unique");
    }
    const bool image = absl::StartsWith(identifier_, "docker-image://") ||
                       absl::StartsWith(identifier_, "oci-layout://");
    return OpDraft(graph).Finish(
        OpKind::kSource, image ? OnPlatform::kYes : OnPlatform::kNo, traits_, std::move(caps),
        [&](WireWriter& source) {
          source.Text(1, identifier_);
          for (const auto& [key, value] : attrs)
            source.Message(2, [&, &k = key, &v = value] { source.Item(1, k).Item(2, v); });
        });
  }

 private:
  const std::string identifier_;
  const Attrs attrs_;
  const std::string local_unique_id_;
  const OpTraits traits_;
};

class DeferredVertex : public Vertex {
 public:
  explicit DeferredVertex(std::function<State()> make) : make_(std::move(make)) {}

  Inputs inputs() const override { return {}; }

  absl::StatusOr<Digest> Write(GraphWriter& graph) const override {
    const State state = make_();
    if (state.scratch() || !state.output().vertex->inputs().empty()) {
      return absl::InternalError("a deferred source became something else");
    }
    return state.output().vertex->Write(graph);
  }

 private:
  const std::function<State()> make_;
};

// As Go writes it: the attribute is part of the op's digest.
std::string JsonList(const std::vector<std::string>& list) {
  GoJson json;
  json.BeginArray();
  for (const std::string& item : list) json.String(item);
  return json.EndArray().Take();
}

struct GitRemote {
  std::string url;
  std::string host;
  std::string path;
  bool ssh = false;
};

// "scheme://[user@]host/path" or scp's "[user@]host:path"; kInvalidArgument for neither.
absl::StatusOr<GitRemote> ParseGitRemote(absl::string_view url) {
  GitRemote remote;
  url = url.substr(0, url.find_first_of("#?"));
  remote.url = std::string(url);
  const size_t scheme_end = url.find("://");
  if (scheme_end != absl::string_view::npos) {
    const absl::string_view scheme = url.substr(0, scheme_end);
    if (scheme != "http" && scheme != "https" && scheme != "ssh" && scheme != "git") {
      return absl::InvalidArgumentError(absl::StrCat("unknown git protocol in ", url));
    }
    remote.ssh = scheme == "ssh";
    absl::string_view rest = url.substr(scheme_end + 3);
    const size_t slash = rest.find('/');
    absl::string_view host = rest.substr(0, slash);
    host = host.substr(host.rfind('@') == absl::string_view::npos ? 0 : host.rfind('@') + 1);
    remote.host = std::string(host);
    if (slash != absl::string_view::npos) remote.path = std::string(rest.substr(slash));
    return remote;
  }
  const size_t colon = url.find(':');
  const size_t at = url.find('@');
  if (colon == absl::string_view::npos || at == absl::string_view::npos || at > colon) {
    return absl::InvalidArgumentError(absl::StrCat("not a git URL: ", url));
  }
  remote.ssh = true;
  remote.host = std::string(url.substr(at + 1, colon - at - 1));
  remote.path = std::string(url.substr(colon + 1));
  return remote;
}

}  // namespace

State Source(std::string identifier, Attrs attrs, Constraints constraints) {
  auto vertex = std::make_shared<SourceVertex>(std::move(identifier), std::move(attrs),
                                               std::move(constraints));
  std::shared_ptr<const Platform> platform = vertex->platform();
  return State(Output{std::move(vertex), 0, std::move(platform)});
}

State DeferredSource(std::function<State()> make) {
  return State(Output{std::make_shared<DeferredVertex>(std::move(make)), 0, {}});
}

std::string NormalizeImageRef(absl::string_view ref) {
  const size_t slash = ref.find('/');
  const absl::string_view first =
      slash == absl::string_view::npos ? absl::string_view() : ref.substr(0, slash);
  const bool has_registry =
      first.find_first_of(".:") != absl::string_view::npos || first == "localhost";
  std::string name = has_registry ? std::string(ref) : absl::StrCat("docker.io/", ref);
  if (absl::StartsWith(name, "index.docker.io/")) name.erase(0, 6);
  constexpr absl::string_view kHub = "docker.io/";
  if (absl::StartsWith(name, kHub) && name.find('/', kHub.size()) == std::string::npos) {
    name.insert(kHub.size(), "library/");
  }
  const bool tagged = name.find(':', name.rfind('/')) != std::string::npos;
  if (!tagged && !absl::StrContains(name, '@')) name += ":latest";
  return name;
}

State Image(absl::string_view ref, ImageInfo info) {
  Attrs attrs;
  CapSet& caps = info.constraints.caps;
  caps.Add("source.image");
  if (info.resolve_mode == ResolveMode::kForcePull) {
    attrs["image.resolvemode"] = "pull";
    caps.Add("source.image.resolvemode");
  } else if (info.resolve_mode == ResolveMode::kPreferLocal) {
    attrs["image.resolvemode"] = "local";
  }
  if (!info.record_type.empty()) attrs["image.recordtype"] = info.record_type;
  if (info.layer_limit) {
    attrs["image.layerlimit"] = absl::StrCat(*info.layer_limit);
    caps.Add("source.image.layerlimit");
  }
  if (!info.checksum.empty()) {
    attrs["image.checksum"] = info.checksum;
    caps.Add("source.image.checksum");
  }
  return Source(absl::StrCat("docker-image://", NormalizeImageRef(ref)), std::move(attrs),
                std::move(info.constraints));
}

State Local(absl::string_view name, LocalInfo info) {
  Attrs attrs;
  CapSet& caps = info.constraints.caps;
  caps.Add("source.local");
  const auto set = [&](const char* key, std::string value, Cap cap) {
    attrs[key] = std::move(value);
    caps.Add(cap);
  };
  if (!info.session_id.empty()) set("local.session", info.session_id, "source.local.sessionid");
  if (!info.include_patterns.empty()) {
    set("local.includepattern", JsonList(info.include_patterns), "source.local.includepatterns");
  }
  if (!info.follow_paths.empty()) {
    set("local.followpaths", JsonList(info.follow_paths), "source.local.followpaths");
  }
  if (!info.exclude_patterns.empty()) {
    set("local.excludepatterns", JsonList(info.exclude_patterns), "source.local.excludepatterns");
  }
  if (!info.shared_key_hint.empty()) {
    set("local.sharedkeyhint", info.shared_key_hint, "source.local.sharedkeyhint");
  }
  if (!info.differ.empty()) {
    attrs["local.differ"] = info.differ;
    if (info.differ_required) caps.Add("source.local.differ");
  }
  return Source(absl::StrCat("local://", name), std::move(attrs), std::move(info.constraints));
}

State Git(absl::string_view url, GitInfo info) {
  Attrs attrs;
  CapSet& caps = info.constraints.caps;
  caps.AddAll({"source.git", "source.git.fullurl"});
  absl::StatusOr<GitRemote> remote = ParseGitRemote(url);
  if (!remote.ok() && !absl::StrContains(url, "://")) {
    remote = ParseGitRemote(absl::StrCat("https://", url));
  }
  std::string id(url);  // what cannot be parsed fails in the daemon, by its own name
  attrs["git.fullurl"] = std::string(url);
  if (remote.ok()) {
    // Host and path only: the same repository by https and ssh is one source.
    id = absl::StrCat(remote->host, JoinPath("/", remote->path));
    if (!info.ref.empty() || !info.subdir.empty()) absl::StrAppend(&id, "#", info.ref);
    if (!info.subdir.empty()) absl::StrAppend(&id, ":", info.subdir);
    attrs["git.fullurl"] = remote->url;
  }
  if (!info.checksum.empty()) {
    attrs["git.checksum"] = info.checksum;
    caps.Add("source.git.checksum");
  }
  if (info.skip_submodules) {
    attrs["git.skipsubmodules"] = "true";
    caps.Add("source.git.skipsubmodules");
  }
  if (info.keep_git_dir) {
    attrs["git.keepgitdir"] = "true";
    caps.Add("source.git.keepgitdir");
  }
  if (!info.mtime.empty()) {
    attrs["git.mtime"] = info.mtime;
    caps.Add("source.git.mtime");
  }
  if (info.fetch_by_commit) {
    attrs["git.fetchbycommit"] = "true";
    caps.Add("source.git.fetchbycommit");
  }
  const GitInfo standard;
  if (!info.auth_token_secret.empty()) attrs["git.authtokensecret"] = info.auth_token_secret;
  if (!info.auth_header_secret.empty()) attrs["git.authheadersecret"] = info.auth_header_secret;
  if (info.auth_token_secret != standard.auth_token_secret ||
      info.auth_header_secret != standard.auth_header_secret) {
    caps.Add("source.git.httpauth");
  }
  if (remote.ok() && remote->ssh) {
    if (!info.known_ssh_hosts.empty()) attrs["git.knownsshhosts"] = info.known_ssh_hosts;
    attrs["git.mountsshsock"] = info.mount_ssh_sock.empty() ? "default" : info.mount_ssh_sock;
    caps.AddAll({"source.git.knownsshhosts", "source.git.mountsshsock"});
  }
  return Source(absl::StrCat("git://", id), std::move(attrs), std::move(info.constraints));
}

State Http(absl::string_view url, HttpInfo info) {
  Attrs attrs;
  CapSet& caps = info.constraints.caps;
  caps.Add("source.http");
  if (!info.checksum.empty()) {
    attrs["http.checksum"] = info.checksum;
    caps.Add("source.http.checksum");
  }
  if (!info.filename.empty()) attrs["http.filename"] = info.filename;
  if (info.mode) {
    attrs["http.perm"] = absl::StrFormat("0%o", *info.mode);
    caps.Add("source.http.perm");
  }
  if (info.uid != 0) attrs["http.uid"] = absl::StrCat(info.uid);
  if (info.gid != 0) attrs["http.gid"] = absl::StrCat(info.gid);
  if (info.uid != 0 || info.gid != 0) caps.Add("soruce.http.uidgid");
  if (!info.auth_header_secret.empty()) {
    attrs["http.authheadersecret"] = info.auth_header_secret;
    caps.Add("source.http.auth");
  }
  return Source(std::string(url), std::move(attrs), std::move(info.constraints));
}

State OciLayout(absl::string_view ref, OciLayoutInfo info) {
  Attrs attrs;
  info.constraints.caps.Add("source.ocilayout");
  if (!info.session_id.empty()) attrs["oci.session"] = info.session_id;
  if (!info.store_id.empty()) attrs["oci.store"] = info.store_id;
  if (info.layer_limit) attrs["oci.layerlimit"] = absl::StrCat(*info.layer_limit);
  return Source(absl::StrCat("oci-layout://", ref), std::move(attrs), std::move(info.constraints));
}

}  // namespace kiln::client::llb
