#include "daemon/exporter/image_exporter.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "daemon/exporter/image_response.h"
#include "daemon/registry/reference.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

class ImageExporter : public Exporter {
 public:
  explicit ImageExporter(const ImageExporterDeps& deps) : deps_(deps) {
    options_.attestation_inline = true;
  }

  absl::Status Set(const std::string& key, const std::string& value) {
    if (key == "push") {
      KILN_ASSIGN_OR_RETURN(push_, ParseBoolOption(key, value, true));
    } else if (key == "push-by-digest") {
      KILN_ASSIGN_OR_RETURN(by_digest_, ParseBoolOption(key, value, true));
    } else if (key == "registry.insecure") {
      KILN_ASSIGN_OR_RETURN(insecure_, ParseBoolOption(key, value, true));
    } else if (key == "store") {
      KILN_ASSIGN_OR_RETURN(store_, ParseBoolOption(key, value, true));
    } else if (key == "unpack") {
      // Trees are unpacked anyway; the option says so for a containerd that others use, too.
      KILN_ASSIGN_OR_RETURN(unpack_, ParseBoolOption(key, value, true));
    } else if (key == "name-canonical") {
      KILN_ASSIGN_OR_RETURN(name_canonical_, ParseBoolOption(key, value, true));
    } else if (key == "dangling-name-prefix") {
      dangling_prefix_ = value;
    } else if (key == "danging-name-empty-only" || key == "dangling-name-empty-only") {
      KILN_ASSIGN_OR_RETURN(dangling_empty_only_, ParseBoolOption(key, value, true));
    } else if (key == "unsafe-internal-store-allow-incomplete") {
      // Images are always kept as they are: layers may stay where they came from.
      return ParseBoolOption(key, value, true).status();
    } else {
      return options_.Set(key, value);
    }
    return absl::OkStatus();
  }

  absl::Status Check() const {
    if (unpack_ && options_.rewrite_timestamp)
      return absl::InvalidArgumentError(
          "exporter option \"rewrite-timestamp\" conflicts with \"unpack\"");
    return absl::OkStatus();
  }

  const std::string& name() const override { return name_; }
  const store::LayerFormat* layer_format() const override { return &options_.layers; }

  absl::StatusOr<ExportAnswer> Export(const ExportSource& source,
                                      const ExportContext& context) override {
    KILN_ASSIGN_OR_RETURN(ImagePlan plan,
                          MakeImagePlan(options_, source, context.compatibility_version,
                                        /*always_oci=*/false));
    const auto lease = std::make_shared<BlobLease>(deps_.writer->blobs());
    KILN_ASSIGN_OR_RETURN(auto written,
                          deps_.writer->Write(source, options_, plan, context, *lease));
    const auto image = std::make_shared<const WrittenImage>(std::move(written));
    const std::string digest = image->root.descriptor.digest.ToString();
    bool canonical = name_canonical_;
    if (!dangling_prefix_.empty() && (!dangling_empty_only_ || plan.names.empty())) {
      if (plan.names.empty()) canonical = false;
      absl::StrAppend(&plan.names, plan.names.empty() ? "" : ",", dangling_prefix_, "@", digest);
    }
    const std::vector<std::string> names = absl::StrSplit(plan.names, ',', absl::SkipEmpty());
    if (store_.value_or(!push_))
      KILN_RETURN_IF_ERROR(Keep(*image, names, canonical, *lease, context));

    ExportAnswer answer;
    answer.response = ImageResponse(*image);
    if (!plan.names.empty()) answer.response["image.name"] = plan.names;
    answer.root = image->root.descriptor;
    answer.hold = lease;
    if (push_ && !names.empty())
      answer.finalize = [this, image, names, lease](const ExportContext& later) {
        return PushAll(*image, names, *lease, later);
      };
    return answer;
  }

 private:
  absl::Status Keep(const WrittenImage& image, const std::vector<std::string>& names,
                    bool canonical, const BlobLease& lease, const ExportContext& context) {
    std::vector<std::string> full;
    for (const std::string& name : names) {
      KILN_ASSIGN_OR_RETURN(const Reference reference, Reference::ParseFamiliar(name));
      full.push_back(reference.ToString());
      if (canonical && !reference.digest.has_value()) {
        Reference by_digest = reference;
        by_digest.digest = image.root.descriptor.digest;
        full.push_back(by_digest.ToString());
      }
    }
    store::NamedImage row;
    row.root = image.root.descriptor;
    row.created_at = options_.epoch.value.value_or(absl::Now());
    std::vector<Digest> blobs;
    for (const store::Descriptor& manifest : image.manifests) blobs.push_back(manifest.digest);
    for (const store::Descriptor& blob : image.blobs) blobs.push_back(blob.digest);
    for (const store::LayerBlob& layer : image.layers) {
      // Only a repository can still be asked when this build is over.
      if (!layer.origin.empty() && !Reference::ParseFamiliar(layer.origin).ok())
        KILN_RETURN_IF_ERROR(deps_.writer->layers()->Ensure(layer, lease.name(), context.cancel));
      const auto stored = deps_.writer->blobs()->Size(layer.descriptor.digest);
      if (stored.ok()) {
        blobs.push_back(layer.descriptor.digest);
      } else if (!layer.origin.empty()) {
        row.remote_layers.push_back({layer.descriptor, layer.diff_id, layer.origin});
      } else {
        return stored.status();
      }
    }
    for (const std::string& name : full) {
      const TransferProgress step(*context.progress, absl::StrCat("naming to ", name), "");
      row.name = name;
      KILN_RETURN_IF_ERROR(deps_.images->Put(row, blobs));
    }
    return absl::OkStatus();
  }

  absl::Status PushAll(const WrittenImage& image, const std::vector<std::string>& names,
                       const BlobLease& lease, const ExportContext& context) {
    for (const std::string& name : names) {
      PushRequest request;
      request.name = name;
      request.by_digest = by_digest_;
      request.call.insecure = insecure_;
      request.call.cancel = context.cancel;
      if (!context.session_id.empty()) request.call.session_ids = {context.session_id};
      request.call.log = [&context](absl::string_view line) {
        context.progress->Log({2, absl::StrCat(line, "\n"), absl::Now()});
      };
      TransferProgress progress(*context.progress, absl::StrCat("pushing ", name), "");
      request.progress = [&progress](int64_t sent, int64_t total) { progress.Update(sent, total); };
      KILN_RETURN_IF_ERROR(deps_.pusher->Push(image, request, lease));
    }
    return absl::OkStatus();
  }

  const std::string name_ = "exporting to image";
  const ImageExporterDeps deps_;
  ImageOptions options_;
  bool push_ = false, by_digest_ = false, insecure_ = false, unpack_ = false;
  bool name_canonical_ = false, dangling_empty_only_ = false;
  std::optional<bool> store_;
  std::string dangling_prefix_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exporter>> NewImageExporter(
    const ImageExporterDeps& deps, const std::map<std::string, std::string>& attrs) {
  auto exporter = std::make_unique<ImageExporter>(deps);
  for (const auto& [key, value] : attrs) KILN_RETURN_IF_ERROR(exporter->Set(key, value));
  KILN_RETURN_IF_ERROR(exporter->Check());
  return exporter;
}

}  // namespace kiln::daemon
