#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "client/llb/constraints.h"
#include "client/llb/state.h"

namespace kiln::client::llb {

// Any source by its identifier ("scheme://…") and attributes.
State Source(std::string identifier, std::map<std::string, std::string> attrs,
             Constraints constraints = {});

// A source that is decided upon when a graph with it is written, as a client's directory whose
// needed paths are known only when all its readers are. `make` is called each time, and gives one
// of the sources of this file.
State DeferredSource(std::function<State()> make);

enum class ResolveMode { kUnset, kForcePull, kPreferLocal };

struct ImageInfo {
  ResolveMode resolve_mode = ResolveMode::kUnset;
  std::string record_type;  // "internal" hides the record from a plain prune
  std::optional<int> layer_limit;
  std::string checksum;
  Constraints constraints;
};

// An image of a registry; "busybox" means docker.io/library/busybox:latest.
State Image(absl::string_view ref, ImageInfo info = {});

// The full form of an image name: with registry, and with a tag unless it has tag or digest.
std::string NormalizeImageRef(absl::string_view ref);

struct LocalInfo {
  std::string session_id;  // "": any session of the build; then constraints.local_unique_id counts
  std::vector<std::string> include_patterns;
  std::vector<std::string> exclude_patterns;
  std::vector<std::string> follow_paths;
  std::string shared_key_hint;
  std::string differ;  // "", "none" or "metadata"
  bool differ_required = false;
  Constraints constraints;
};

// A directory of the client, by the name under which `kiln build --local NAME=DIR` offers it.
State Local(absl::string_view name, LocalInfo info = {});

struct GitInfo {
  std::string ref;
  std::string subdir;
  std::string checksum;
  bool keep_git_dir = false;
  bool skip_submodules = false;
  bool fetch_by_commit = false;
  std::string mtime;  // "", "checkout" or "commit"
  std::string auth_token_secret = "GIT_AUTH_TOKEN";
  std::string auth_header_secret = "GIT_AUTH_HEADER";
  std::string known_ssh_hosts;
  std::string mount_ssh_sock;  // for ssh remotes; "": "default"
  Constraints constraints;
};

// A git repository. Without a scheme, https.
State Git(absl::string_view url, GitInfo info = {});

struct HttpInfo {
  std::string checksum;
  std::string filename;
  std::optional<int> mode;
  uint32_t uid = 0, gid = 0;
  std::string auth_header_secret;
  Constraints constraints;
};

// A file from a web server.
State Http(absl::string_view url, HttpInfo info = {});

struct OciLayoutInfo {
  std::string session_id;
  std::string store_id;
  std::optional<int> layer_limit;
  Constraints constraints;
};

// An image of an OCI layout that the client offers: "name@sha256:…".
State OciLayout(absl::string_view ref, OciLayoutInfo info = {});

}  // namespace kiln::client::llb
