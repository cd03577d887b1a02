#include "daemon/remotecache/remote_caches.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "daemon/exporter/parallel.h"
#include "daemon/registry/reference.h"
#include "daemon/remotecache/result_layers.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

constexpr char kInline[] = "inline";
// BuildKit has it, this daemon has not.
constexpr char kUnbuilt[] = "azblob";

absl::Status UnknownType(absl::string_view type, absl::string_view what) {
  if (type == kUnbuilt)
    return absl::UnimplementedError(
        absl::StrCat("remote cache of type ", type, " is not supported by this daemon"));
  return absl::InvalidArgumentError(absl::StrCat("unknown cache ", what, ": \"", type, "\""));
}

absl::Status CheckDuplicates(const std::vector<CacheRequest>& exports) {
  std::set<std::string> refs;
  std::vector<std::string> twice;
  for (size_t i = 0; i < exports.size(); ++i) {
    if (exports[i].type == kInline) continue;
    bool again = false;
    for (size_t j = 0; j < i; ++j) again = again || exports[i] == exports[j];
    if (exports[i].type == "registry") {
      const auto ref = Reference::ParseFamiliar(CacheAttr(exports[i].attrs, "ref"));
      if (ref.ok()) again = !refs.insert(ref->ToString()).second || again;
    }
    if (again) twice.push_back(exports[i].type);
  }
  if (twice.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("duplicate cache exports [", absl::StrJoin(twice, " "), "]"));
}

std::string SpecText(const CacheRequest& request) {
  std::string text = request.type;
  for (const auto& [key, value] : request.attrs)
    absl::StrAppend(&text, "\n", key, "=", value.size(), ":", value);
  return text;
}

}  // namespace

void RemoteCaches::Add(std::string type, MakeTarget target, MakeSource source) {
  kinds_[std::move(type)] = {std::move(target), std::move(source)};
}

absl::StatusOr<std::unique_ptr<BuildCaches>> RemoteCaches::Open(
    const std::string& build_id, const std::vector<CacheRequest>& exports,
    const std::vector<CacheRequest>& imports, std::vector<std::string> session_ids) {
  KILN_RETURN_IF_ERROR(CheckDuplicates(exports));
  auto caches = std::unique_ptr<BuildCaches>(new BuildCaches(stores_, &pool_));
  caches->session_ids_ = std::move(session_ids);
  for (const CacheRequest& request : exports) {
    const CommonCacheOptions options = CommonOptions(request.attrs);
    if (request.type == kInline) {
      if (!caches->inline_.has_value()) caches->inline_ = options;
      continue;
    }
    const auto kind = kinds_.find(request.type);
    if (kind == kinds_.end()) return UnknownType(request.type, "exporter");
    auto target = kind->second.target(request.attrs);
    if (!target.ok())
      return Annotate(target.status(),
                      absl::StrCat("failed to configure ", request.type, " cache exporter"));
    caches->targets_.push_back({options, *std::move(target)});
  }
  std::string identity = build_id;
  for (const CacheRequest& request : imports) {
    absl::StrAppend(&identity, "\n\n", SpecText(request));
    const auto kind = kinds_.find(request.type);
    absl::StatusOr<std::unique_ptr<CacheSource>> source = UnknownType(request.type, "importer");
    if (kind != kinds_.end()) source = kind->second.source(request.attrs);
    std::string id = CacheAttr(request.attrs, "ref");
    if (source.ok()) id = (*source)->id();
    if (id.empty())
      id = absl::StrCat(request.type, ":", Digest::Of(SpecText(request)).hex().substr(0, 12));
    caches->sources_.push_back({std::move(id), std::move(source)});
  }
  if (!caches->sources_.empty())
    caches->imports_ = std::make_shared<ImportedCache>(Digest::Of(identity), stores_.imports,
                                                       caches->cancel_.token());
  return caches;
}

BuildCaches::~BuildCaches() {
  cancel_.Cancel(absl::CancelledError("build is done"));
  MutexLock lock(&mu_);
  while (fetching_ > 0) changed_.Wait(&mu_);
}

void BuildCaches::Start(const std::shared_ptr<solver::Job>& job) {
  {
    MutexLock lock(&mu_);
    fetching_ = sources_.size();
  }
  for (size_t i = 0; i < sources_.size(); ++i) pool_.Post([this, job, i] { FetchOne(i, *job); });
}

void BuildCaches::FetchOne(size_t index, solver::Job& job) {
  const Source& source = sources_[index];
  std::vector<ImportedConfig> found;
  // A failure is shown by the step and concerns nobody else.
  job.RunStep(absl::StrCat(job.id(), "-cache-import-", index),
              absl::StrCat("importing cache manifest from ", source.id),
              [&](solver::ProgressSink& progress) -> absl::Status {
                KILN_RETURN_IF_ERROR(source.source.status());
                if (cancel_.token().Cancelled()) return cancel_.token().status();
                KILN_ASSIGN_OR_RETURN(
                    found, (*source.source)->Fetch({session_ids_, cancel_.token(), &progress}));
                return absl::OkStatus();
              })
      .IgnoreError();
  std::vector<ImportedConfig> all;
  const std::shared_ptr<ImportedCache> imports = imports_;
  {
    MutexLock lock(&mu_);
    for (ImportedConfig& config : found) fetched_.push_back(std::move(config));
    if (fetching_ == 1) all.swap(fetched_);
    if (fetching_ > 1) {
      --fetching_;
      return;
    }
  }
  imports->Fill(all);
  MutexLock lock(&mu_);
  fetching_ = 0;
  changed_.SignalAll();
}

absl::StatusOr<std::string> BuildCaches::InlineCache(solver::Job& job,
                                                     const std::string& definition,
                                                     const std::vector<Digest>& diff_ids,
                                                     const store::LayerFormat& format,
                                                     const CancelToken& cancel) const {
  const auto make = [&]() -> absl::StatusOr<std::string> {
    KILN_ASSIGN_OR_RETURN(solver::SolvedGraph graph, job.Solved(definition));
    KILN_ASSIGN_OR_RETURN(const std::vector<WalkedKey> keys, WalkKeys({&graph, 1}, *stores_.index));
    const auto layers = NewResultLayers(stores_.loader, stores_.imports.layers, format, cancel);
    return MakeInlineCache(keys, diff_ids, *layers);
  };
  absl::StatusOr<std::string> records = make();
  if (records.ok() || !inline_->ignore_error || cancel.Cancelled()) return records;
  return std::string();
}

absl::Status BuildCaches::SendOne(const Target& target, absl::Span<const WalkedKey> keys,
                                  solver::ProgressSink& progress,
                                  const std::vector<std::string>& session_ids,
                                  const CancelToken& cancel,
                                  std::map<std::string, std::string>* answer) const {
  CacheExport cache;
  {
    const TransferProgress step(progress, "preparing build cache for export", "");
    const auto layers =
        NewResultLayers(stores_.loader, stores_.imports.layers, target.target->format(), cancel);
    KILN_ASSIGN_OR_RETURN(cache, MakeCacheExport(keys, target.options.mode, *layers));
  }
  if (cache.config.layers.empty()) {
    const TransferProgress step(progress, "skipping cache export for empty result", "");
    return absl::OkStatus();
  }
  const TransferProgress step(progress, "sending cache export", "");
  KILN_ASSIGN_OR_RETURN(*answer, target.target->Send(cache, {session_ids, cancel, &progress}));
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::string>> BuildCaches::Export(
    solver::Job& job, const std::vector<std::string>& definitions,
    const std::vector<std::string>& session_ids, const CancelToken& cancel) const {
  std::map<std::string, std::string> response;
  if (targets_.empty()) return response;
  std::vector<solver::SolvedGraph> graphs;
  for (const std::string& definition : definitions) {
    KILN_ASSIGN_OR_RETURN(solver::SolvedGraph graph, job.Solved(definition));
    graphs.push_back(std::move(graph));
  }
  KILN_ASSIGN_OR_RETURN(const std::vector<WalkedKey> keys, WalkKeys(graphs, *stores_.index));
  std::vector<std::map<std::string, std::string>> answers(targets_.size());
  KILN_RETURN_IF_ERROR(RunParallel(targets_.size(), targets_.size(), [&](size_t i) -> absl::Status {
    const Target& target = targets_[i];
    const absl::Status status =
        job.RunStep(absl::StrCat(job.id(), "-cache-", i), target.target->name(),
                    [&](solver::ProgressSink& progress) {
                      return SendOne(target, keys, progress, session_ids, cancel, &answers[i]);
                    });
    return target.options.ignore_error && !cancel.Cancelled() ? absl::OkStatus() : status;
  }));
  // Stock clients know one descriptor, whatever the number of caches; each one's own is beside it.
  for (size_t i = 0; i < answers.size(); ++i) {
    for (const auto& [key, value] : answers[i]) {
      response[key] = value;
      if (targets_.size() > 1) response[absl::StrCat(key, ".", i)] = value;
    }
  }
  return response;
}

}  // namespace kiln::daemon
