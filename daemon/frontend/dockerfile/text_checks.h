#pragma once

#include <set>
#include <string>
#include <vector>

#include "daemon/frontend/dockerfile/lint.h"
#include "daemon/frontend/dockerfile/step_name.h"
#include "daemon/frontend/dockerfile/syntax/document.h"
#include "daemon/frontend/dockerfile/syntax/expand.h"

namespace kiln::daemon::dockerfile {

// Checks of single instructions that need nothing but their text, in the order of the file. Also of
// the part of a file that was read before an error.
void CheckInstructions(const Document& document, const Linter& lint);

// Checks over the whole file: names of stages, casing of keywords.
void CheckWholeFile(const Document& document, const Linter& lint);

// Whether the base images have names when no build args are given. `predefined` as for the build.
void CheckDefaultBases(const Document& document, const EnvList& predefined, const Linter& lint);

// Of one FROM, once its base or platform is expanded. `known`: all that the file or the builder
// declares.
void CheckFromArgs(const std::set<std::string>& unset, const std::vector<std::string>& known,
                   const LineRange& lines, const Linter& lint);
void CheckFromPlatform(const Stage& stage, const Expansion& platform, const EnvList& global,
                       const Linter& lint);

// "GITHUB_TOKEN", "db_password": names whose values should be secrets.
bool LooksSecret(absl::string_view key);

}  // namespace kiln::daemon::dockerfile
