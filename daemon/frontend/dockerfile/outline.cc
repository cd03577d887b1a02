#include "daemon/frontend/dockerfile/outline.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/frontend/dockerfile/answer_format.h"
#include "proto/go_json.h"

namespace kiln::daemon::dockerfile {
namespace {

// Everything that is used, with the default values it refers to.
std::set<std::string> UsedArgs(const OutlineNotes& notes) {
  std::set<std::string> used;
  std::vector<std::string> open(notes.used_args.begin(), notes.used_args.end());
  while (!open.empty()) {
    const std::string key = std::move(open.back());
    open.pop_back();
    if (!used.insert(key).second) continue;
    if (const auto arg = notes.args.find(key); arg != notes.args.end()) {
      open.insert(open.end(), arg->second.needs.begin(), arg->second.needs.end());
    }
  }
  return used;
}

// The target first, then what it is made of; the first to tell of a name is believed.
std::vector<const StageState*> InOrderOfNeed(const StageState& target) {
  std::vector<const StageState*> order, open = {&target};
  std::set<const StageState*> seen;
  while (!open.empty()) {
    const StageState* stage = open.back();
    open.pop_back();
    if (!seen.insert(stage).second) continue;
    order.push_back(stage);
    for (auto at = stage->dependencies.rbegin(); at != stage->dependencies.rend(); ++at) {
      open.push_back(at->first);
    }
    if (stage->base != nullptr) open.push_back(stage->base);
  }
  return order;
}

struct Secret {
  std::string name;
  SecretUse use;
};

template <typename Item>
void SortByLine(std::vector<Item>* items) {
  std::stable_sort(items->begin(), items->end(), [](const Item& a, const Item& b) {
    return a.use.lines.first < b.use.lines.first;
  });
}

struct NamedArg {
  std::string name;
  ArgUse use;
};

void WriteSecrets(const char* key, const std::vector<Secret>& secrets, GoJson& json) {
  if (secrets.empty()) return;
  json.Key(key).BeginArray();
  for (const Secret& secret : secrets) {
    json.BeginObject().Key("name").String(secret.name);
    json.OptBool("required", secret.use.required).Key("location");
    WriteLocation({secret.use.lines}, json);
    json.EndObject();
  }
  json.EndArray();
}

std::string SecretTable(const char* heading, const std::vector<Secret>& secrets) {
  if (secrets.empty()) return "";
  std::vector<std::vector<std::string>> rows = {{heading, "REQUIRED"}};
  for (const Secret& secret : secrets) {
    rows.push_back({secret.name, secret.use.required ? "true" : ""});
  }
  return absl::StrCat(Table(rows, 3), "\n");
}

}  // namespace

BridgeResult DescribeOutline(const Compilation& compilation, absl::string_view data) {
  const StageState& target = compilation.target();
  std::vector<NamedArg> args;
  std::vector<Secret> secrets, agents;
  std::set<std::string> told_args, told_secrets, told_agents;
  for (const StageState* stage : InOrderOfNeed(target)) {
    const OutlineNotes& notes = stage->outline;
    for (const std::string& key : UsedArgs(notes)) {
      const auto arg = notes.args.find(key);
      if (arg == notes.args.end() || !told_args.insert(key).second) continue;
      args.push_back({key, arg->second});
    }
    for (const auto& [id, use] : notes.secrets) {
      if (told_secrets.insert(id).second) secrets.push_back({id, use});
    }
    for (const auto& [id, use] : notes.agents) {
      if (told_agents.insert(id).second) agents.push_back({id, use});
    }
  }
  SortByLine(&args);
  SortByLine(&secrets);
  SortByLine(&agents);

  const std::string name = target.written_name();
  const std::string description = target.written == nullptr ? "" : target.written->description;
  GoJson json;
  json.BeginObject().OptString("name", name).OptString("description", description);
  if (!args.empty()) {
    json.Key("args").BeginArray();
    for (const NamedArg& arg : args) {
      json.BeginObject().Key("name").String(arg.name);
      json.OptString("description", arg.use.definition.description);
      json.OptString("value", arg.use.value).Key("location");
      WriteLocation({arg.use.lines}, json);
      json.EndObject();
    }
    json.EndArray();
  }
  WriteSecrets("secrets", secrets, json);
  WriteSecrets("ssh", agents, json);
  json.Key("sources").BeginArray().Bytes(data).EndArray().EndObject();

  std::string text;
  if (!name.empty() || !description.empty()) {
    std::vector<std::vector<std::string>> rows = {{"TARGET:", name.empty() ? "(default)" : name}};
    if (!description.empty()) rows.push_back({"DESCRIPTION:", description});
    absl::StrAppend(&text, Table(rows, 1), "\n");
  }
  if (!args.empty()) {
    std::vector<std::vector<std::string>> rows = {{"BUILD ARG", "VALUE", "DESCRIPTION"}};
    for (const NamedArg& arg : args) {
      rows.push_back({arg.name, arg.use.value, arg.use.definition.description});
    }
    absl::StrAppend(&text, Table(rows, 3), "\n");
  }
  absl::StrAppend(&text, SecretTable("SECRET", secrets), SecretTable("SSH", agents));

  BridgeResult result;
  result.metadata = {
      {"result.json", Indented(json.text())}, {"result.txt", text}, {"version", "1.0.0"}};
  return result;
}

}  // namespace kiln::daemon::dockerfile
