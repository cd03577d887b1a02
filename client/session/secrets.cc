#include "client/session/secrets.h"

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/csv.h"
#include "store/base/fd.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

absl::Status CheckSize(absl::string_view id, size_t bytes) {
  if (bytes <= SecretStore::kMaxBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("secret ", id, " is larger than ", SecretStore::kMaxBytes >> 10, " KiB"));
}

absl::StatusOr<std::string> ReadSecretFile(absl::string_view id, const std::string& path) {
  absl::StatusOr<std::string> content = ReadFileToString(path, SecretStore::kMaxBytes);
  if (absl::IsResourceExhausted(content.status())) return CheckSize(id, SecretStore::kMaxBytes + 1);
  if (!content.ok()) return Annotate(content.status(), absl::StrCat("secret ", id));
  return content;
}

}  // namespace

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
  if (id.empty()) return absl::InvalidArgumentError("it has no id=");
  if (source.file.empty() && source.env.empty()) {
    const bool in_environment = std::getenv(id.c_str()) != nullptr;
    (in_environment && type != "file" ? source.env : source.file) = id;
  }
  if (!source.file.empty()) KILN_RETURN_IF_ERROR(ReadSecretFile(id, source.file).status());
  sources_[id] = std::move(source);
  return absl::OkStatus();
}

absl::StatusOr<std::string> SecretStore::Get(absl::string_view id) const {
  const auto found = sources_.find(id);
  if (found == sources_.end()) {
    return absl::NotFoundError(absl::StrCat("secret ", id, " is not offered by the client"));
  }
  const Source& source = found->second;
  if (source.env.empty()) return ReadSecretFile(id, source.file);
  const char* text = std::getenv(source.env.c_str());
  std::string value = text == nullptr ? "" : text;
  KILN_RETURN_IF_ERROR(CheckSize(id, value.size()));
  return value;
}

}  // namespace kiln::client
