#include "daemon/source/local_source.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/session/call_endings.h"
#include "daemon/session/services.h"
#include "daemon/source/go_values.h"
#include "daemon/source/local_copies.h"
#include "daemon/source/local_target.h"
#include "daemon/source/transfer_progress.h"
#include "proto/digest.h"
#include "proto/go_json.h"
#include "store/base/pattern_matcher.h"
#include "store/base/status_macros.h"
#include "store/fsutil/receiver.h"

namespace kiln::daemon {
namespace {

// The attributes of one local source.
struct LocalSpec {
  std::string name;
  std::string session;  // "": any session of the vertex
  GoStrings include_patterns, exclude_patterns, follow_paths;
  std::string shared_key_hint;
  bool resend_everything = false;
  bool metadata_only = false;
  GoStrings metadata_exceptions;
};

void SetSession(absl::string_view value, LocalSpec* spec) {
  const size_t colon = value.find(':');
  if (colon == absl::string_view::npos) {
    spec->session = std::string(value);
    return;
  }
  // "PREFIX:ID" also changes the directory's name: one client offers it under several.
  spec->name = absl::StrCat(value.substr(0, colon), "-", spec->name);
  spec->session = std::string(value.substr(colon + 1));
}

absl::Status SetAttribute(const std::string& key, const std::string& value, LocalSpec* spec) {
  if (key == "local.session") {
    SetSession(value, spec);
  } else if (key == "local.includepattern") {
    KILN_ASSIGN_OR_RETURN(spec->include_patterns, ParseStringArray(key, value));
  } else if (key == "local.excludepatterns") {
    KILN_ASSIGN_OR_RETURN(spec->exclude_patterns, ParseStringArray(key, value));
  } else if (key == "local.followpaths") {
    KILN_ASSIGN_OR_RETURN(spec->follow_paths, ParseStringArray(key, value));
  } else if (key == "local.sharedkeyhint") {
    spec->shared_key_hint = value;
  } else if (key == "local.differ") {
    spec->resend_everything = value == "none";
  } else if (key == "local.metadatatransfer") {
    KILN_ASSIGN_OR_RETURN(spec->metadata_only, ParseGoBool(key, value));
  } else if (key == "local.metadatatransferexclude") {
    KILN_ASSIGN_OR_RETURN(spec->metadata_exceptions, ParseStringArray(key, value));
  }
  return absl::OkStatus();
}

// The client has nothing for us, or is gone: another session may do.
bool TryAnotherSession(const absl::Status& status, const Session& session) {
  return absl::IsNotFound(status) || absl::IsUnimplemented(status) || session.closed().Cancelled();
}

class LocalInstance : public SourceInstance {
 public:
  LocalInstance(LocalSpec spec, std::optional<PatternMatcher> exceptions,
                std::shared_ptr<LocalCopies> copies, std::shared_ptr<CallEndings> endings,
                SessionFinder* sessions)
      : spec_(std::move(spec)),
        exceptions_(std::move(exceptions)),
        copies_(std::move(copies)),
        endings_(std::move(endings)),
        sessions_(sessions) {}

  absl::StatusOr<SourceKey> Key(solver::OpContext& context, int index) override;
  absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext& context) override;
  bool PerSession() const override { return spec_.session.empty(); }
  bool CheapKey() const override { return true; }
  bool RunsEarly() const override { return true; }

 private:
  absl::StatusOr<store::RefPtr> FromAnySession(solver::OpContext& context);
  absl::StatusOr<store::RefPtr> FromSession(Session& session, solver::OpContext& context);
  absl::Status Receive(fsutil::PacketStream& stream, solver::OpContext& context,
                       LocalCopies::Copy& copy);

  const LocalSpec spec_;
  const std::optional<PatternMatcher> exceptions_;
  const std::shared_ptr<LocalCopies> copies_;
  const std::shared_ptr<CallEndings> endings_;
  SessionFinder* const sessions_;
};

absl::StatusOr<SourceKey> LocalInstance::Key(solver::OpContext& context, int /*index*/) {
  std::string session = spec_.session;
  if (session.empty()) {
    const std::vector<std::string> ids = context.SessionIds();
    if (ids.empty())
      return absl::FailedPreconditionError("could not access local files without session");
    session = ids.front();
  }
  GoJson json;
  json.BeginObject().Key("SessionID").String(session);
  WriteStrings("IncludePatterns", spec_.include_patterns, json);
  WriteStrings("ExcludePatterns", spec_.exclude_patterns, json);
  WriteStrings("FollowPaths", spec_.follow_paths, json);
  json.OptBool("MetadataTransfer", spec_.metadata_only);
  if (spec_.metadata_exceptions.has_value() && !spec_.metadata_exceptions->empty())
    WriteStrings("MetadataExceptions", spec_.metadata_exceptions, json);
  json.EndObject();
  SourceKey key;
  key.pin = Digest::Of(json.text()).ToString();
  key.key = absl::StrCat("session:", spec_.name, ":", key.pin);
  return key;
}

absl::StatusOr<store::RefPtr> LocalInstance::Snapshot(solver::OpContext& context) {
  if (spec_.session.empty()) return FromAnySession(context);
  absl::StatusOr<SessionPtr> session = sessions_->Get(spec_.session, context.cancel());
  if (context.cancel().Cancelled()) return context.cancel().status();
  if (!session.ok()) return FromAnySession(context);
  absl::StatusOr<store::RefPtr> ref = FromSession(**session, context);
  if (ref.ok() || !TryAnotherSession(ref.status(), **session)) return ref;
  absl::StatusOr<store::RefPtr> other = FromAnySession(context);
  // Nobody else has it: what the pinned session said tells more.
  return other.ok() || context.cancel().Cancelled() ? other : ref;
}

absl::StatusOr<store::RefPtr> LocalInstance::FromAnySession(solver::OpContext& context) {
  store::RefPtr result;
  KILN_RETURN_IF_ERROR(
      sessions_->Any(context.SessionIds(), context.cancel(), [&](Session& session) -> absl::Status {
        KILN_ASSIGN_OR_RETURN(result, FromSession(session, context));
        return absl::OkStatus();
      }));
  return result;
}

absl::StatusOr<store::RefPtr> LocalInstance::FromSession(Session& session,
                                                         solver::OpContext& context) {
  store::RefOptions options;
  options.description = absl::StrCat("local source for ", spec_.name);
  options.record_type = "source.local";
  options.retain = true;
  options.index_key = absl::StrCat("local.sharedKey:", spec_.name, ":", spec_.shared_key_hint, ":",
                                   session.shared_key(), spec_.metadata_only ? ":metadata" : "");

  FileSyncRequest request;
  request.dir_name = spec_.name;
  request.include_patterns = spec_.include_patterns.value_or(std::vector<std::string>());
  request.exclude_patterns = spec_.exclude_patterns.value_or(std::vector<std::string>());
  request.follow_paths = spec_.follow_paths.value_or(std::vector<std::string>());

  // The client walks its directory while the copy is found.
  std::unique_ptr<LocalCopies::Copy> copy;
  const auto receive = [&](fsutil::PacketStream& stream) -> absl::Status {
    KILN_ASSIGN_OR_RETURN(copy, copies_->Open(options, !spec_.resend_everything, context.cancel()));
    return Receive(stream, context, *copy);
  };
  KILN_RETURN_IF_ERROR(DiffCopy(session, request, context.cancel(), receive, endings_.get()));
  return copy->Commit();
}

absl::Status LocalInstance::Receive(fsutil::PacketStream& stream, solver::OpContext& context,
                                    LocalCopies::Copy& copy) {
  TransferProgress progress(context.progress(), absl::StrCat("transferring ", spec_.name, ":"),
                            "transferring");
  fsutil::ReceiveOptions options;
  options.existing_root = copy.dir();
  if (spec_.resend_everything) options.differ = fsutil::ReceiveOptions::Differ::kNone;
  options.metadata_only = spec_.metadata_only;
  if (exceptions_.has_value())
    options.exception = [this](const std::string& path) { return exceptions_->Matches(path); };
  options.leave_fin = true;
  options.cancel = context.cancel();
  options.progress = [&](int64_t bytes) { progress.Update(bytes); };

  const auto open = [&]() -> absl::StatusOr<store::TreeWriter*> {
    KILN_ASSIGN_OR_RETURN(store::MutableRef * ref, copy.Writable(context.cancel()));
    return &ref->writer();
  };
  LocalTarget target(open, copy.dir());
  return fsutil::Receive(stream, target, options);
}

}  // namespace

LocalSource::LocalSource(store::RefStore* refs, SessionFinder* sessions)
    : copies_(std::make_shared<LocalCopies>(refs)),
      endings_(std::make_shared<CallEndings>()),
      sessions_(sessions) {}

absl::StatusOr<std::shared_ptr<SourceInstance>> LocalSource::Resolve(const SourceSpec& spec) {
  LocalSpec local;
  local.name = std::string(absl::StripPrefix(spec.identifier, "local://"));
  for (const auto& [key, value] : spec.attrs)
    KILN_RETURN_IF_ERROR(SetAttribute(key, value, &local));
  std::optional<PatternMatcher> exceptions;
  if (local.metadata_only && local.metadata_exceptions.has_value()) {
    KILN_ASSIGN_OR_RETURN(PatternMatcher matcher,
                          Annotate(PatternMatcher::Create(*local.metadata_exceptions),
                                   "invalid value for local.metadatatransferexclude"));
    exceptions = std::move(matcher);
  }
  return std::make_shared<LocalInstance>(std::move(local), std::move(exceptions), copies_, endings_,
                                         sessions_);
}

}  // namespace kiln::daemon
