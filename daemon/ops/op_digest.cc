#include "daemon/ops/op_digest.h"

#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/buildkit/ops.pb.h"
#include "proto/digest.h"
#include "proto/go_json.h"
#include "proto/op_bytes.h"

namespace kiln::daemon {

namespace {

std::string DigestOf(const GoJson& json) { return Digest::Of(json.text()).ToString(); }

template <typename Strings>
void OptStrings(absl::string_view name, const Strings& values, GoJson* json) {
  if (values.empty()) return;
  json->Key(name).BeginArray();
  for (const auto& value : values) json->String(value);
  json->EndArray();
}

// Members of a oneof appear under the Go wrapper's names.
void User(absl::string_view name, const pb::UserOpt& user, GoJson* json) {
  json->Key(name).BeginObject().Key("User");
  switch (user.user_case()) {
    case pb::UserOpt::kByName:
      json->BeginObject().Key("ByName").BeginObject();
      json->OptString("name", user.byname().name()).OptInt("input", user.byname().input());
      json->EndObject().EndObject();
      break;
    case pb::UserOpt::kByID:
      json->BeginObject().Key("ByID").Uint(user.byid()).EndObject();
      break;
    default:
      json->Null();
  }
  json->EndObject();
}

template <typename Action>
void OptOwner(const Action& action, GoJson* json) {
  if (!action.has_owner()) return;
  json->Key("owner").BeginObject();
  if (action.owner().has_user()) User("user", action.owner().user(), json);
  if (action.owner().has_group()) User("group", action.owner().group(), json);
  json->EndObject();
}

void Body(const pb::FileActionCopy& copy, bool cut, GoJson* json) {
  std::string src = copy.src();
  if (cut) {
    // Go's path.Base.
    while (src.size() > 1 && src.back() == '/') src.pop_back();
    if (src.empty()) src.push_back('.');
    if (src != "/") src = src.substr(src.rfind('/') + 1);
  }
  json->OptString("src", src).OptString("dest", copy.dest());
  OptOwner(copy, json);
  json->OptInt("mode", copy.mode())
      .OptBool("followSymlink", copy.followsymlink())
      .OptBool("dirCopyContents", copy.dircopycontents())
      .OptBool("attemptUnpackDockerCompatibility", copy.attemptunpackdockercompatibility())
      .OptBool("createDestPath", copy.createdestpath())
      .OptBool("allowWildcard", copy.allowwildcard())
      .OptBool("allowEmptyWildcard", copy.allowemptywildcard())
      .OptInt("timestamp", copy.timestamp());
  OptStrings("include_patterns", copy.include_patterns(), json);
  OptStrings("exclude_patterns", copy.exclude_patterns(), json);
  json->OptBool("alwaysReplaceExistingDestPaths", copy.alwaysreplaceexistingdestpaths())
      .OptString("modeStr", copy.modestr());
  OptStrings("required_paths", copy.required_paths(), json);
}

void Body(const pb::FileActionMkFile& make, GoJson* json) {
  json->OptString("path", make.path()).OptInt("mode", make.mode());
  if (!make.data().empty()) json->Key("data").Bytes(make.data());
  OptOwner(make, json);
  json->OptInt("timestamp", make.timestamp());
}

void Body(const pb::FileActionMkDir& make, GoJson* json) {
  json->OptString("path", make.path())
      .OptInt("mode", make.mode())
      .OptBool("makeParents", make.makeparents());
  OptOwner(make, json);
  json->OptInt("timestamp", make.timestamp());
}

void Body(const pb::FileActionRm& remove, GoJson* json) {
  json->OptString("path", remove.path())
      .OptBool("allowNotFound", remove.allownotfound())
      .OptBool("allowWildcard", remove.allowwildcard());
}

void Body(const pb::FileActionSymlink& link, GoJson* json) {
  json->OptString("oldpath", link.oldpath()).OptString("newpath", link.newpath());
  OptOwner(link, json);
  json->OptInt("timestamp", link.timestamp());
}

std::string ActionJson(const pb::FileAction& action, bool cut) {
  GoJson json;
  json.BeginObject();
  switch (action.action_case()) {
    case pb::FileAction::kCopy:
      Body(action.copy(), cut, &json);
      break;
    case pb::FileAction::kMkfile:
      Body(action.mkfile(), &json);
      break;
    case pb::FileAction::kMkdir:
      Body(action.mkdir(), &json);
      break;
    case pb::FileAction::kRm:
      Body(action.rm(), &json);
      break;
    case pb::FileAction::kSymlink:
      Body(action.symlink(), &json);
      break;
    default:
      break;
  }
  json.EndObject();
  return json.Take();
}

// The plain chain on the first input, which BuildKit writes without indexes. That it counts
// actions where it means inputs is part of the digest.
bool IsLinear(const pb::FileOp& op) {
  const int count = op.actions_size();
  for (int i = 0; i < count; ++i) {
    const pb::FileAction& action = op.actions(i);
    if (action.input() != (i == 0 ? 0 : count + i - 1)) return false;
    if (action.secondaryinput() != -1 && action.secondaryinput() != 1) return false;
    if (action.output() != (i == count - 1 ? 0 : -1)) return false;
  }
  return count > 0;
}

}  // namespace

std::string FileOpDigest(const pb::FileOp& op, const std::vector<bool>& cut_source) {
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.file.v0").Key("Actions").BeginArray();
  for (int i = 0; i < op.actions_size(); ++i)
    json.Bytes(ActionJson(op.actions(i), cut_source[static_cast<size_t>(i)]));
  json.EndArray();
  if (!IsLinear(op)) {
    json.Key("indexes").BeginArray();
    for (const pb::FileAction& action : op.actions()) {
      json.BeginArray().Int(action.input()).Int(action.secondaryinput()).Int(action.output());
      json.EndArray();
    }
    json.EndArray();
  }
  json.EndObject();
  return DigestOf(json);
}

std::string MergeOpDigest(const pb::MergeOp& op) {
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.merge.v0").Key("Merge").BeginObject();
  if (op.inputs_size() > 0) {
    json.Key("inputs").BeginArray();
    for (const pb::MergeInput& input : op.inputs())
      json.BeginObject().OptInt("input", input.input()).EndObject();
    json.EndArray();
  }
  json.EndObject().EndObject();
  return DigestOf(json);
}

std::string DiffOpDigest(const pb::DiffOp& op) {
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.diff.v0").Key("Diff").BeginObject();
  if (op.has_lower())
    json.Key("lower").BeginObject().OptInt("input", op.lower().input()).EndObject();
  if (op.has_upper())
    json.Key("upper").BeginObject().OptInt("input", op.upper().input()).EndObject();
  json.EndObject().EndObject();
  return DigestOf(json);
}

std::string PassthroughOpDigest(const pb::PassthroughOp& op) {
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.passthrough.v0");
  json.Key("Passthrough").BeginObject().OptString("id", op.id());
  if (op.outputs_size() > 0) {
    json.Key("outputs").BeginArray();
    for (const int64_t output : op.outputs()) json.Int(output);
    json.EndArray();
  }
  json.EndObject().EndObject();
  return DigestOf(json);
}

std::string BuildOpDigest(const pb::BuildOp& op) {
  GoJson json;
  json.BeginObject().Key("Type").String("buildkit.build.v0").Key("Exec").BeginObject();
  json.OptInt("builder", op.builder());
  if (!op.inputs().empty()) {
    json.Key("inputs").BeginObject();
    const std::map<std::string, pb::BuildInput> sorted(op.inputs().begin(), op.inputs().end());
    for (const auto& [name, input] : sorted)
      json.Key(name).BeginObject().OptInt("input", input.input()).EndObject();
    json.EndObject();
  }
  // No client sends a definition here; its bytes stand for it.
  if (op.has_def()) json.Key("def").Bytes(CanonicalBytes(op.def()));
  if (!op.attrs().empty()) {
    json.Key("attrs").BeginObject();
    const std::map<std::string, std::string> sorted(op.attrs().begin(), op.attrs().end());
    for (const auto& [name, value] : sorted) json.Key(name).String(value);
    json.EndObject();
  }
  json.EndObject().EndObject();
  return DigestOf(json);
}

std::string SourceOpDigest(absl::string_view key) {
  const Digest digest = Digest::Of(absl::StrCat("buildkit.source.v0:", key));
  if (absl::StartsWith(key, "session:")) return absl::StrCat("random:", digest.hex());
  return digest.ToString();
}

}  // namespace kiln::daemon
