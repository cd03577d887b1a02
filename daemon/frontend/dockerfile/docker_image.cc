#include "daemon/frontend/dockerfile/docker_image.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "daemon/image/history.h"
#include "proto/go_json.h"
#include "store/base/status_macros.h"

namespace kiln::daemon::dockerfile {
namespace {

using Json = nlohmann::json;

// Reads members that may be absent or null; the wrong type throws.
class Reader {
 public:
  explicit Reader(const Json& object) : object_(object) {
    if (!object.is_object()) throw std::runtime_error("an object was expected");
  }

  const Json* Find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  template <typename T>
  void Get(const char* name, T* out) const {
    if (const Json* value = Find(name)) value->get_to(*out);
  }
  void Keys(const char* name, std::set<std::string>* out) const {
    const Json* value = Find(name);
    if (value == nullptr) return;
    for (const auto& [key, unused] : Reader(*value).object_.items()) out->insert(key);
  }

 private:
  const Json& object_;
};

void ReadHealthcheck(const Json& json, HealthcheckConfig* out) {
  const Reader health(json);
  health.Get("Test", &out->test);
  health.Get("Interval", &out->interval_ns);
  health.Get("Timeout", &out->timeout_ns);
  health.Get("StartPeriod", &out->start_period_ns);
  health.Get("StartInterval", &out->start_interval_ns);
  health.Get("Retries", &out->retries);
}

void ReadConfig(const Json& json, DockerImage* out) {
  const Reader config(json);
  config.Get("User", &out->user);
  config.Keys("ExposedPorts", &out->exposed_ports);
  config.Get("Env", &out->env);
  config.Get("Entrypoint", &out->entrypoint);
  config.Get("Cmd", &out->cmd);
  config.Keys("Volumes", &out->volumes);
  config.Get("WorkingDir", &out->working_dir);
  config.Get("Labels", &out->labels);
  config.Get("StopSignal", &out->stop_signal);
  config.Get("ArgsEscaped", &out->args_escaped);
  config.Get("OnBuild", &out->on_build);
  config.Get("Shell", &out->shell);
  if (const Json* health = config.Find("Healthcheck")) {
    ReadHealthcheck(*health, &out->healthcheck.emplace());
  }
}

void ReadImage(const Json& json, DockerImage* out, std::string* created) {
  const Reader image(json);
  image.Get("created", created);
  image.Get("author", &out->author);
  image.Get("architecture", &out->platform.architecture);
  image.Get("os", &out->platform.os);
  image.Get("os.version", &out->platform.os_version);
  image.Get("os.features", &out->platform.os_features);
  image.Get("variant", &out->platform.variant);
  if (const Json* config = image.Find("config")) ReadConfig(*config, out);
  if (const Json* rootfs = image.Find("rootfs")) {
    Reader(*rootfs).Get("type", &out->rootfs_type);
    if (const Json* ids = Reader(*rootfs).Find("diff_ids")) ids->get_to(out->diff_ids.emplace());
  }
}

void WriteList(absl::string_view name, const std::vector<std::string>& list, GoJson& json) {
  if (list.empty()) return;
  json.Key(name).BeginArray();
  for (const std::string& item : list) json.String(item);
  json.EndArray();
}

void WriteKeys(absl::string_view name, const std::set<std::string>& keys, GoJson& json) {
  if (keys.empty()) return;
  json.Key(name).BeginObject();
  for (const std::string& key : keys) json.Key(key).BeginObject().EndObject();
  json.EndObject();
}

void WriteHealthcheck(const HealthcheckConfig& health, GoJson& json) {
  json.Key("Healthcheck").BeginObject();
  WriteList("Test", health.test, json);
  json.OptInt("Interval", health.interval_ns);
  json.OptInt("Timeout", health.timeout_ns);
  json.OptInt("StartPeriod", health.start_period_ns);
  json.OptInt("StartInterval", health.start_interval_ns);
  json.OptInt("Retries", health.retries);
  json.EndObject();
}

void WriteConfig(const DockerImage& image, GoJson& json) {
  json.Key("config").BeginObject();
  json.OptString("User", image.user);
  WriteKeys("ExposedPorts", image.exposed_ports, json);
  WriteList("Env", image.env, json);
  WriteList("Entrypoint", image.entrypoint, json);
  WriteList("Cmd", image.cmd, json);
  WriteKeys("Volumes", image.volumes, json);
  json.OptString("WorkingDir", image.working_dir);
  if (!image.labels.empty()) {
    json.Key("Labels").BeginObject();
    for (const auto& [key, value] : image.labels) json.Key(key).String(value);
    json.EndObject();
  }
  json.OptString("StopSignal", image.stop_signal);
  json.OptBool("ArgsEscaped", image.args_escaped);
  if (image.healthcheck) WriteHealthcheck(*image.healthcheck, json);
  WriteList("OnBuild", image.on_build, json);
  WriteList("Shell", image.shell, json);
  json.EndObject();
}

}  // namespace

DockerImage DockerImage::Scratch(const Platform& platform) {
  DockerImage image;
  image.platform = platform;
  image.rootfs_type = "layers";
  image.working_dir = "/";
  // On Windows the system has its own.
  if (platform.os != "windows") image.env.push_back(absl::StrCat("PATH=", kDefaultPath));
  return image;
}

absl::StatusOr<DockerImage> DockerImage::Parse(absl::string_view json) {
  DockerImage image;
  std::string created;
  try {
    ReadImage(Json::parse(json.begin(), json.end()), &image, &created);
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("image config: ", e.what()));
  }
  if (!created.empty()) {
    KILN_ASSIGN_OR_RETURN(image.created, GoTime::Parse(created));
  }
  KILN_ASSIGN_OR_RETURN(image.history, ParseHistory(json));
  return image;
}

std::string DockerImage::ToJson() const {
  GoJson json;
  json.BeginObject();
  if (created) json.Key("created").String(created->ToString());
  json.OptString("author", author);
  json.Key("architecture").String(platform.architecture);
  json.Key("os").String(platform.os);
  json.OptString("os.version", platform.os_version);
  WriteList("os.features", platform.os_features, json);
  json.OptString("variant", platform.variant);
  json.Key("rootfs").BeginObject().Key("type").String(rootfs_type).Key("diff_ids");
  if (diff_ids) {
    json.BeginArray();
    for (const std::string& id : *diff_ids) json.String(id);
    json.EndArray();
  } else {
    json.Null();
  }
  json.EndObject();
  if (!history.empty()) {
    json.Key("history").Raw(HistoryToJson(history));
  }
  WriteConfig(*this, json);
  return json.EndObject().Take();
}

void DockerImage::SetEnv(absl::string_view key, absl::string_view value) {
  const std::string entry = absl::StrCat(key, "=", value);
  for (std::string& old : env) {
    if (absl::string_view(old).substr(0, old.find('=')) == key) {
      old = entry;
      return;
    }
  }
  env.push_back(entry);
}

bool DockerImage::HasEnv(absl::string_view key) const {
  for (const std::string& entry : env) {
    if (absl::string_view(entry).substr(0, entry.find('=')) == key) return true;
  }
  return false;
}

}  // namespace kiln::daemon::dockerfile
