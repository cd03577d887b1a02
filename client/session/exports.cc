#include "client/session/exports.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/csv.h"
#include "store/base/status_macros.h"

namespace kiln::client {

namespace {

namespace fs = std::filesystem;

absl::Status TargetForFile(absl::string_view text, bool stdout_is_terminal, ExportRequest* out) {
  std::string& dest = out->target.path;
  if (dest.empty()) dest = "-";
  struct stat info = {};
  if (dest != "-" && stat(dest.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "destination of --output ", text, " must be a file, and ", dest, " is a directory"));
  }
  if (dest == "-" && stdout_is_terminal) {
    return absl::InvalidArgumentError(absl::StrCat("--output ", text,
                                                   " would write an archive to a terminal: "
                                                   "redirect it or name a file with dest="));
  }
  out->target.kind = ExportTarget::Kind::kFile;
  return absl::OkStatus();
}

absl::Status TargetForDirectory(absl::string_view text, ExportRequest* out) {
  const std::string& dest = out->target.path;
  if (dest.empty())
    return absl::InvalidArgumentError(absl::StrCat("--output ", text, " needs dest=DIRECTORY"));
  if (dest == "-")
    return absl::InvalidArgumentError(
        absl::StrCat("--output ", text, ": a directory can't be written to standard output"));
  struct stat info = {};
  if (stat(dest.c_str(), &info) == 0 && !S_ISDIR(info.st_mode))
    return absl::InvalidArgumentError(
        absl::StrCat("--output ", text, ": ", dest, " is no directory"));
  const auto mode = out->attrs.find("mode");
  out->target.kind = ExportTarget::Kind::kDirectory;
  out->target.delete_others = mode != out->attrs.end() && mode->second == "delete";
  return absl::OkStatus();
}

absl::Status MakeRoom(const ExportTarget& target) {
  std::error_code error;
  if (target.kind == ExportTarget::Kind::kFile && target.path != "-") {
    const fs::path folder = fs::absolute(target.path, error).parent_path();
    fs::create_directories(folder, error);
    if (error)
      return absl::FailedPreconditionError(
          absl::StrCat("make directory ", folder.string(), ": ", error.message()));
    if (access(folder.c_str(), W_OK) != 0)
      return ErrnoStatus(errno, absl::StrCat("write in ", folder.string()));
  }
  if (target.kind == ExportTarget::Kind::kLayout) {
    fs::create_directories(target.path, error);
    if (error)
      return absl::FailedPreconditionError(
          absl::StrCat("make directory ", target.path, ": ", error.message()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeRoomFor(const ExportTarget& target, absl::string_view flag) {
  return Annotate(MakeRoom(target), flag);
}

absl::StatusOr<ExportRequest> ParseOutput(absl::string_view text, bool stdout_is_terminal) {
  ExportRequest out;
  if (text == "-") {
    out.type = "tar";
    KILN_RETURN_IF_ERROR(TargetForFile(text, stdout_is_terminal, &out));
    return out;
  }
  if (!absl::StrContains(text, '=') && !absl::StrContains(text, ',') && !text.empty()) {
    out.type = "local";
    out.target.path = std::string(text);
    KILN_RETURN_IF_ERROR(TargetForDirectory(text, &out));
    return out;
  }
  KILN_ASSIGN_OR_RETURN(const auto fields, SplitCsvFields(text));
  for (const auto& [key, value] : fields) {
    if (key == "type") {
      out.type = value;
    } else if (key == "dest") {
      out.target.path = value;
    } else {
      out.attrs[key] = value;
    }
  }
  if (out.type.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--output ", text, " needs type="));
  }
  if (out.type == "none" || out.type == "cacheonly") {
    out.type.clear();
    return out;
  }
  if (out.type == "registry") {
    out.type = "image";
    out.attrs["push"] = "true";
  }
  if (out.type == "local") {
    KILN_RETURN_IF_ERROR(TargetForDirectory(text, &out));
  } else if (out.type == "tar" || out.type == "oci" || out.type == "docker") {
    const auto tar = out.attrs.find("tar");
    if (out.type != "tar" && tar != out.attrs.end() && tar->second == "false") {
      if (out.target.path.empty() || out.target.path == "-")
        return absl::InvalidArgumentError(
            absl::StrCat("--output ", text, ": tar=false needs dest=DIRECTORY"));
      out.target.kind = ExportTarget::Kind::kLayout;
      return out;
    }
    KILN_RETURN_IF_ERROR(TargetForFile(text, stdout_is_terminal, &out));
  } else if (!out.target.path.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output ", text, ": type ", out.type, " has no dest="));
  }
  return out;
}

}  // namespace kiln::client
