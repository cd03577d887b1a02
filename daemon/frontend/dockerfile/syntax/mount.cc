#include "daemon/frontend/dockerfile/syntax/mount.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/frontend/dockerfile/syntax/csv.h"
#include "daemon/frontend/dockerfile/syntax/go_text.h"
#include "daemon/frontend/dockerfile/syntax/suggest.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {

namespace {

// In the order of MountType and CacheSharing.
absl::Span<const std::string> TypeNames() {
  static const auto& names =
      *new std::vector<std::string>{"bind", "cache", "tmpfs", "secret", "ssh"};
  return names;
}

absl::Span<const std::string> SharingNames() {
  static const auto& names = *new std::vector<std::string>{"shared", "private", "locked"};
  return names;
}

absl::Span<const std::string> Keys() {
  static const auto& keys = *new std::vector<std::string>{
      "type",        "from", "source", "target",    "readonly", "id",  "sharing",
      "required",    "size", "mode",   "uid",       "gid",      "src", "dst",
      "destination", "ro",   "rw",     "readwrite", "env"};
  return keys;
}

absl::Status Fail(absl::string_view why) { return absl::InvalidArgumentError(why); }

absl::Status InvalidValue(absl::string_view key, absl::string_view value) {
  return Fail(absl::StrCat("invalid value for ", key, ": ", value));
}

// The enumerator whose name, in any case, `value` is.
template <typename Enum>
absl::StatusOr<Enum> Choose(absl::string_view what, absl::string_view value,
                            absl::Span<const std::string> names) {
  const std::string lower = absl::AsciiStrToLower(value);
  for (size_t i = 0; i < names.size(); ++i) {
    if (lower == names[i]) return static_cast<Enum>(i);
  }
  return Fail(
      absl::StrCat("unsupported ", what, " ", Quote(value), DidYouMean(Nearest(value, names))));
}

struct Field {
  std::string key;  // in lower case
  absl::string_view value;
  bool has_value = false;
};

Field CutField(const std::string& field) {
  const size_t equals = field.find('=');
  Field out;
  out.key = absl::AsciiStrToLower(field.substr(0, equals));
  out.has_value = equals != std::string::npos;
  if (out.has_value) out.value = absl::string_view(field).substr(equals + 1);
  return out;
}

absl::StatusOr<std::vector<std::string>> Fields(absl::string_view flag) {
  return Annotate(SplitCsv(flag), "failed to parse csv mounts");
}

// Reads the fields of one flag from left to right.
class MountReader {
 public:
  absl::Status Read(const std::string& text, WordExpander expand) {
    const Field field = CutField(text);
    if (!field.has_value) return Word(field.key, text);
    KILN_ASSIGN_OR_RETURN(const std::string value, expand(field.value));
    return Option(field.key, value, text);
  }

  absl::StatusOr<Mount> Finish();

 private:
  // A field without '='.
  absl::Status Word(const std::string& key, const std::string& text);
  absl::Status Option(const std::string& key, const std::string& value, const std::string& text);
  absl::Status Bool(const std::string& key, const std::string& value, bool* out) const;
  absl::Status WrongType(absl::string_view key) const {
    return Fail(absl::StrCat("unexpected key '", key, "' for mount type '",
                             MountTypeName(mount_.type), "'"));
  }
  bool MayBeRequired() const {
    return mount_.type == MountType::kSecret || mount_.type == MountType::kSsh;
  }

  Mount mount_;
  std::optional<bool> read_only_;
};

absl::Status MountReader::Word(const std::string& key, const std::string& text) {
  if (key == "readonly" || key == "ro") {
    read_only_ = true;
  } else if (key == "readwrite" || key == "rw") {
    read_only_ = false;
  } else if (key == "required") {
    if (!MayBeRequired()) return WrongType(key);
    mount_.required = true;
  } else {
    return Fail(absl::StrCat("invalid field '", text, "' must be a key=value pair"));
  }
  return absl::OkStatus();
}

absl::Status MountReader::Bool(const std::string& key, const std::string& value, bool* out) const {
  const std::optional<bool> parsed = ParseBool(value);
  if (!parsed.has_value()) return InvalidValue(key, value);
  *out = *parsed;
  return absl::OkStatus();
}

absl::Status MountReader::Option(const std::string& key, const std::string& value,
                                 const std::string& text) {
  if (key == "type") {
    KILN_ASSIGN_OR_RETURN(mount_.type, Choose<MountType>("mount type", value, TypeNames()));
  } else if (key == "from") {
    mount_.from = value;
  } else if (key == "source" || key == "src") {
    mount_.source = value;
  } else if (key == "target" || key == "dst" || key == "destination") {
    mount_.target = value;
  } else if (key == "readonly" || key == "ro") {
    KILN_RETURN_IF_ERROR(Bool(key, value, &read_only_.emplace()));
  } else if (key == "readwrite" || key == "rw") {
    bool writable = false;
    KILN_RETURN_IF_ERROR(Bool(key, value, &writable));
    read_only_ = !writable;
  } else if (key == "required") {
    if (!MayBeRequired()) return WrongType(key);
    KILN_RETURN_IF_ERROR(Bool(key, value, &mount_.required));
  } else if (key == "size") {
    if (mount_.type != MountType::kTmpfs) return WrongType(key);
    const std::optional<int64_t> size = ParseRamSize(value);
    if (!size.has_value()) return InvalidValue(key, value);
    mount_.size_bytes = *size;
  } else if (key == "id") {
    mount_.id = value;
  } else if (key == "sharing") {
    KILN_ASSIGN_OR_RETURN(mount_.sharing,
                          Choose<CacheSharing>("sharing value", value, SharingNames()));
  } else if (key == "mode" || key == "uid" || key == "gid") {
    const std::optional<uint32_t> number = ParseUint32(value, key == "mode" ? 8 : 10);
    if (!number.has_value()) return Fail(absl::StrCat("invalid value ", value, " for ", key));
    (key == "mode" ? mount_.mode : key == "uid" ? mount_.uid : mount_.gid) = number;
  } else if (key == "env") {
    mount_.env = value;
  } else {
    return Fail(absl::StrCat("unexpected key '", key, "' in '", text, "'",
                             DidYouMean(Nearest(key, Keys()))));
  }
  return absl::OkStatus();
}

absl::StatusOr<Mount> MountReader::Finish() {
  const bool is_secret = mount_.type == MountType::kSecret;
  const bool is_cache = mount_.type == MountType::kCache;
  if (!MayBeRequired() && !is_cache) {
    for (const auto& [name, value] : {std::pair("mode", mount_.mode), std::pair("uid", mount_.uid),
                                      std::pair("gid", mount_.gid)}) {
      if (value.has_value()) {
        return Fail(absl::StrCat(name, " not allowed for ", Quote(MountTypeName(mount_.type)),
                                 " type mounts"));
      }
    }
  }
  mount_.read_only = read_only_.value_or(!is_cache && mount_.type != MountType::kTmpfs);
  if (is_secret) {
    if (!mount_.from.empty()) return Fail("secret mount should not have a from");
    if (mount_.sharing.has_value()) return Fail("secret mount should not define sharing");
    if (mount_.source.empty() && mount_.target.empty() && mount_.id.empty())
      return Fail("invalid secret mount. one of source, target required");
    if (!mount_.source.empty() && !mount_.id.empty())
      return Fail("both source and id can't be set");
  }
  if (mount_.sharing.has_value() && !is_cache) {
    return Fail(
        absl::StrCat("invalid cache sharing set for ", MountTypeName(mount_.type), " mount"));
  }
  return std::move(mount_);
}

}  // namespace

absl::string_view MountTypeName(MountType type) { return TypeNames()[static_cast<size_t>(type)]; }

absl::StatusOr<Mount> ParseMount(absl::string_view flag, WordExpander expand) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, Fields(flag));
  MountReader reader;
  for (const std::string& field : fields) KILN_RETURN_IF_ERROR(reader.Read(field, expand));
  return reader.Finish();
}

absl::StatusOr<std::string> ParseMountFrom(absl::string_view flag) {
  KILN_ASSIGN_OR_RETURN(const std::vector<std::string> fields, Fields(flag));
  std::string from;
  for (const std::string& text : fields) {
    const Field field = CutField(text);
    if (!field.has_value || field.key != "from") continue;
    // A '$' at the end refers to nothing.
    const size_t dollar = field.value.find('$');
    if (dollar != absl::string_view::npos && dollar + 1 != field.value.size()) {
      return Fail(absl::StrCat("'", field.key,
                               "' doesn't support variable expansion, define alias stage instead"));
    }
    from = std::string(field.value);
  }
  return from;
}

}  // namespace kiln::daemon::dockerfile
