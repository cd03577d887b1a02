#include "client/bake/target.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/csv.h"
#include "store/base/status_macros.h"

namespace kiln::client::bake {
namespace {

using Kind = TargetField::Kind;

constexpr TargetField kFields[] = {
    {"description", Kind::kText},
    {"inherits", Kind::kList, true},
    {"annotations", Kind::kList, true},
    {"attest", Kind::kList, true},
    {"context", Kind::kText},
    {"contexts", Kind::kMap},
    {"dockerfile", Kind::kText},
    {"dockerfile-inline", Kind::kText},
    {"args", Kind::kMap},
    {"labels", Kind::kMap},
    {"tags", Kind::kList},
    {"cache-from", Kind::kList, true},
    {"cache-to", Kind::kList},
    {"target", Kind::kText},
    {"secret", Kind::kList, true},
    {"ssh", Kind::kList, true},
    {"platforms", Kind::kList},
    {"output", Kind::kList},
    {"pull", Kind::kFlag},
    {"no-cache", Kind::kFlag},
    {"network", Kind::kText},
    {"no-cache-filter", Kind::kList, true},
    {"shm-size", Kind::kText},
    {"ulimits", Kind::kList, true},
    {"call", Kind::kText},
    {"entitlements", Kind::kList, true},
    {"extra-hosts", Kind::kMap},
};

absl::StatusOr<std::map<std::string, std::string>> ToMap(const hcl::Value& value) {
  if (!value.is_object())
    return absl::InvalidArgumentError(absl::StrCat("an object is required, not ", value.kind()));
  std::map<std::string, std::string> map;
  for (const auto& [key, item] : value.object()) {
    if (item.is_null()) continue;
    KILN_ASSIGN_OR_RETURN(map[key], Annotate(item.ToString(), key));
  }
  return map;
}

// "default", or "id=path,path" of {id = …, paths = […]}.
absl::StatusOr<std::string> SshText(const hcl::Value& value) {
  std::string text;
  const auto id = value.object().find("id");
  if (id != value.object().end()) {
    KILN_ASSIGN_OR_RETURN(text, id->second.ToString());
  }
  const auto paths = value.object().find("paths");
  if (paths == value.object().end() || !paths->second.is_list()) return text;
  std::vector<std::string> names;
  for (const hcl::Value& path : paths->second.list()) {
    KILN_ASSIGN_OR_RETURN(names.emplace_back(), path.ToString());
  }
  return names.empty() ? text : absl::StrCat(text, "=", absl::StrJoin(names, ","));
}

absl::StatusOr<std::vector<std::string>> ToTexts(const TargetField& field,
                                                 const hcl::Value& value) {
  if (!value.is_list())
    return absl::InvalidArgumentError(absl::StrCat("a list is required, not ", value.kind()));
  std::vector<std::string> texts;
  for (const hcl::Value& item : value.list()) {
    if (item.is_object() && field.name == "ssh") {
      KILN_ASSIGN_OR_RETURN(texts.emplace_back(), SshText(item));
    } else if (item.is_object()) {
      KILN_ASSIGN_OR_RETURN(const auto fields, ToMap(item));
      texts.push_back(JoinFields(fields));
    } else {
      KILN_ASSIGN_OR_RETURN(texts.emplace_back(), item.ToString());
    }
  }
  return texts;
}

}  // namespace

absl::Span<const TargetField> TargetFields() { return kFields; }

const TargetField* FindTargetField(absl::string_view name) {
  const auto found = std::find_if(std::begin(kFields), std::end(kFields),
                                  [&](const TargetField& field) { return field.name == name; });
  return found == std::end(kFields) ? nullptr : found;
}

std::string JoinFields(const std::map<std::string, std::string>& fields) {
  std::vector<std::string> parts;
  const auto add = [&parts](const std::string& key, const std::string& value) {
    std::string part = absl::StrCat(key, "=", value);
    if (part.find_first_of(",\"\n") != std::string::npos)
      part = absl::StrCat("\"", absl::StrReplaceAll(part, {{"\"", "\"\""}}), "\"");
    parts.push_back(std::move(part));
  };
  const auto type = fields.find("type");
  if (type != fields.end()) add(type->first, type->second);
  for (const auto& [key, value] : fields)
    if (key != "type") add(key, value);
  return absl::StrJoin(parts, ",");
}

std::string Target::Text(const std::string& field) const {
  const auto found = texts.find(field);
  return found == texts.end() ? "" : found->second;
}

const std::vector<std::string>& Target::List(const std::string& field) const {
  static const auto* const kNone = new std::vector<std::string>;
  const auto found = lists.find(field);
  return found == lists.end() ? *kNone : found->second;
}

const std::map<std::string, std::string>& Target::Map(const std::string& field) const {
  static const auto* const kNone = new std::map<std::string, std::string>;
  const auto found = maps.find(field);
  return found == maps.end() ? *kNone : found->second;
}

absl::Status Target::Set(const TargetField& field, const hcl::Value& value) {
  const std::string key(field.name);
  if (value.is_null()) return absl::OkStatus();
  switch (field.kind) {
    case Kind::kText: {
      KILN_ASSIGN_OR_RETURN(texts[key], value.ToString());
      break;
    }
    case Kind::kFlag: {
      KILN_ASSIGN_OR_RETURN(flags[key], value.ToBool());
      break;
    }
    case Kind::kList: {
      KILN_ASSIGN_OR_RETURN(lists[key], ToTexts(field, value));
      break;
    }
    case Kind::kMap: {
      KILN_ASSIGN_OR_RETURN(maps[key], ToMap(value));
      break;
    }
  }
  return absl::OkStatus();
}

hcl::Value Target::Get(const TargetField& field) const {
  const std::string key(field.name);
  if (const auto text = texts.find(key); text != texts.end()) return hcl::Value(text->second);
  if (const auto flag = flags.find(key); flag != flags.end()) return hcl::Value(flag->second);
  if (const auto list = lists.find(key); list != lists.end()) {
    hcl::Value::List items;
    for (const std::string& item : list->second) items.emplace_back(item);
    return hcl::Value(std::move(items));
  }
  if (const auto map = maps.find(key); map != maps.end()) {
    hcl::Value::Object members;
    for (const auto& [member, text] : map->second) members[member] = hcl::Value(text);
    return hcl::Value(std::move(members));
  }
  return hcl::Value();
}

void Target::Merge(const Target& other) {
  for (const auto& [key, value] : other.texts) texts[key] = value;
  for (const auto& [key, value] : other.flags) flags[key] = value;
  for (const auto& [key, value] : other.maps)
    for (const auto& [member, text] : value) maps[key][member] = text;
  for (const auto& [key, value] : other.lists) {
    std::vector<std::string>& list = lists[key];
    if (!FindTargetField(key)->appends) list.clear();
    list.insert(list.end(), value.begin(), value.end());
  }
}

void Target::Normalize() {
  for (auto& [key, list] : lists) {
    if (key == "inherits") continue;
    std::set<std::string> seen;
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&seen](const std::string& item) {
                                return item.empty() || !seen.insert(item).second;
                              }),
               list.end());
  }
  if (const auto attests = lists.find("attest"); attests != lists.end()) {
    // What was set last comes first, and is all that holds of its type.
    std::set<std::string> seen;
    std::vector<std::string>& list = attests->second;
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&seen](const std::string& item) {
                                const auto fields = SplitCsvFields(item, /*bare_allowed=*/true);
                                if (!fields.ok()) return false;
                                for (const auto& [key, value] : *fields)
                                  if (key == "type") return !seen.insert(value).second;
                                return false;
                              }),
               list.end());
  }
  const auto contexts = maps.find("contexts");
  if (contexts == maps.end()) return;
  for (auto entry = contexts->second.begin(); entry != contexts->second.end();)
    entry = entry->second.empty() ? contexts->second.erase(entry) : std::next(entry);
}

}  // namespace kiln::client::bake
