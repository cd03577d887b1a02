#include "client/session/secrets.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/csv.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {

absl::Status SecretStore::Add(absl::string_view text) {
  KILN_ASSIGN_OR_RETURN(const auto fields, SplitCsvFields(text));
  std::string id, type;
  Source source;
  for (const auto& [key, value] : fields) {
    if (key == "id") {
      id = value;
    } else if (key == "src" || key == "source") {
      source.file = value;
    } else if (key == "env") {
      source.env = value;
    } else if (key == "type" && (value == "file" || value == "env")) {
      type = value;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected ", key, "=", value, ": use id=ID[,src=FILE][,env=VARIABLE]"));
    }
  }
  if (type == "env" && source.env.empty()) source.env = std::exchange(source.file, "");
  if (id.empty()) id = !source.env.empty() ? source.env : source.file;
  if (id.empty()) return absl::InvalidArgumentError("it has no id=");
  if (source.file.empty() && source.env.empty()) {
    const bool in_environment = std::getenv(id.c_str()) != nullptr;
    (in_environment && type != "file" ? source.env : source.file) = id;
  }
  KILN_RETURN_IF_ERROR(Read(id, source).status());
  sources_[id] = std::move(source);
  return absl::OkStatus();
}

absl::StatusOr<std::string> SecretStore::Get(absl::string_view id) const {
  const auto found = sources_.find(id);
  if (found == sources_.end()) {
    return absl::NotFoundError(absl::StrCat("secret ", id, " is not offered by the client"));
  }
  return Read(id, found->second);
}

absl::StatusOr<std::string> SecretStore::Read(absl::string_view id, const Source& source) {
  std::string value;
  if (!source.env.empty()) {
    const char* text = std::getenv(source.env.c_str());
    if (text == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("secret ", id, ": environment variable ", source.env, " is not set"));
    }
    value = text;
  } else {
    absl::StatusOr<std::string> content = ReadFileToString(source.file, kMaxBytes + 1);
    if (!content.ok() && !absl::IsResourceExhausted(content.status())) {
      return Annotate(content.status(), absl::StrCat("secret ", id));
    }
    value = content.ok() ? *std::move(content) : std::string(kMaxBytes + 1, '\0');
  }
  if (value.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("secret ", id, " is larger than ", kMaxBytes >> 10, " KiB"));
  }
  return value;
}

}  // namespace kiln::client
