// The plan as JSON, member for member as Docker's tools print it.
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/bake/plan.h"
#include "client/csv.h"
#include "proto/go_json.h"

namespace kiln::client::bake {
namespace {

// What is printed is a definition again, whose texts are templates.
std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"${", "$${"}, {"%{", "%%{"}});
}

// Docker's bake escapes the values of these only.
bool IsEscaped(absl::string_view key) {
  return key == "annotations" || key == "dockerfile-inline" || key == "labels" || key == "args" ||
         key == "extra-hosts";
}

void AppendTexts(const std::vector<std::string>& texts, GoJson* json) {
  json->BeginArray();
  for (const std::string& text : texts) json->String(text);
  json->EndArray();
}

// The fields of "type=local,dest=x" and the like; what Docker's bake takes a bare word for.
std::map<std::string, std::string> FieldsOf(absl::string_view key, const std::string& text) {
  const auto fields = SplitCsvFields(text);
  if (fields.ok()) return {fields->begin(), fields->end()};
  if (key == "output" && text == "-") return {{"dest", text}, {"type", "tar"}};
  if (key == "output") return {{"dest", text}, {"type", "local"}};
  return {{"ref", text}, {"type", "registry"}};
}

// An entry of the lists that Docker's bake prints as objects.
void AppendEntry(absl::string_view key, const std::string& text, GoJson* json) {
  json->BeginObject();
  if (key == "ssh") {
    const size_t equals = text.find('=');
    json->Key("id").String(text.substr(0, equals));
    if (equals != std::string::npos) {
      json->Key("paths");
      AppendTexts(absl::StrSplit(text.substr(equals + 1), ','), json);
    }
  } else {
    std::map<std::string, std::string> fields = FieldsOf(key, text);
    if (key == "secret") {
      fields.try_emplace("src", fields["source"]);
      for (const char* name : {"id", "src", "env"}) json->OptString(name, fields[name]);
      fields.clear();
    }
    for (const auto& [name, value] : fields) {
      if (key != "attest" || name != "disabled")
        json->Key(name).String(value);
      else
        json->OptBool(name, value != "false");
    }
  }
  json->EndObject();
}

bool IsEntries(absl::string_view key) {
  return key == "attest" || key == "cache-from" || key == "cache-to" || key == "output" ||
         key == "secret" || key == "ssh";
}

void AppendTarget(const Target& target, GoJson* json) {
  json->BeginObject();
  for (const TargetField& field : TargetFields()) {
    const std::string key(field.name);
    const auto shown = [escaped = IsEscaped(key)](const std::string& text) {
      return escaped ? Escape(text) : text;
    };
    if (const auto text = target.texts.find(key); text != target.texts.end()) {
      json->Key(key).String(shown(text->second));
    } else if (const auto flag = target.flags.find(key); flag != target.flags.end()) {
      json->Key(key).Bool(flag->second);
    } else if (const auto& list = target.List(key); !list.empty()) {
      json->Key(key).BeginArray();
      for (const std::string& item : list) {
        if (IsEntries(key))
          AppendEntry(key, item, json);
        else
          json->String(shown(item));
      }
      json->EndArray();
    } else if (const auto& map = target.Map(key); !map.empty()) {
      json->Key(key).BeginObject();
      for (const auto& [name, value] : map) json->Key(name).String(shown(value));
      json->EndObject();
    }
  }
  json->EndObject();
}

// Compact JSON on several lines; empty objects and lists stay on one.
std::string Indent(const std::string& compact) {
  std::string out;
  size_t depth = 0;
  bool quoted = false;
  const auto new_line = [&] {
    out.push_back('\n');
    out.append(2 * depth, ' ');
  };
  for (size_t i = 0; i < compact.size(); ++i) {
    const char c = compact[i];
    if (quoted) {
      out.push_back(c);
      if (c == '\\') out.push_back(compact[++i]);
      quoted = c != '"';
      continue;
    }
    const bool open = c == '{' || c == '[';
    const bool close = c == '}' || c == ']';
    if (close && compact[i - 1] != '{' && compact[i - 1] != '[') {
      --depth;
      new_line();
    } else if (close) {
      --depth;
    }
    out.push_back(c);
    quoted = c == '"';
    if (open) ++depth;
    if (c == ':') out.push_back(' ');
    if (c == ',' || (open && compact[i + 1] != '}' && compact[i + 1] != ']')) new_line();
  }
  return out;
}

}  // namespace

std::string PlanJson(const Plan& plan) {
  GoJson json;
  json.BeginObject();
  if (!plan.groups.empty()) {
    json.Key("group").BeginObject();
    for (const auto& [name, group] : plan.groups) {
      json.Key(name).BeginObject();
      json.OptString("description", group.description);
      json.Key("targets");
      AppendTexts(group.targets, &json);
      json.EndObject();
    }
    json.EndObject();
  }
  json.Key("target").BeginObject();
  for (const auto& [name, target] : plan.targets) {
    json.Key(name);
    AppendTarget(target, &json);
  }
  json.EndObject().EndObject();
  return Indent(json.Take());
}

}  // namespace kiln::client::bake
