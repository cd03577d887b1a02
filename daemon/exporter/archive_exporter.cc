#include "daemon/exporter/archive_exporter.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "daemon/exporter/archive_source.h"
#include "daemon/exporter/image_response.h"
#include "daemon/exporter/known_layers.h"
#include "daemon/exporter/tar_writer.h"
#include "daemon/session/services.h"
#include "daemon/session/session_content.h"
#include "daemon/source/transfer_progress.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {
namespace {

constexpr char kCreated[] = "org.opencontainers.image.created";
constexpr char kStoreId[] = "export";  // of the client's content store

class ArchiveExporter : public Exporter {
 public:
  ArchiveExporter(ImageWriter* writer, bool docker)
      : name_(docker ? "exporting to docker image format" : "exporting to oci image format"),
        writer_(writer),
        docker_(docker) {
    options_.attestations = !docker;
  }

  absl::Status Set(const std::string& key, const std::string& value) {
    if (key == "tar") {
      KILN_ASSIGN_OR_RETURN(tar_, ParseBoolOption(key, value, true));
    } else if (key == kKnownLayers && docker_) {
      KILN_ASSIGN_OR_RETURN(known_layers_, ParseKnownLayers(value));
    } else {
      return options_.Set(key, value);
    }
    return absl::OkStatus();
  }

  const std::string& name() const override { return name_; }
  const store::LayerFormat* layer_format() const override { return &options_.layers; }

  absl::StatusOr<ExportAnswer> Export(const ExportSource& source,
                                      const ExportContext& context) override {
    if (docker_ && source.is_map)
      return absl::InvalidArgumentError(
          "docker exporter does not currently support exporting manifest lists");
    KILN_ASSIGN_OR_RETURN(
        const ImagePlan plan,
        MakeImagePlan(options_, source, context.compatibility_version, /*always_oci=*/!docker_));
    KILN_ASSIGN_OR_RETURN(const std::vector<std::string> names, NormalizedNames(plan.names));
    const auto lease = std::make_shared<BlobLease>(writer_->blobs());
    KILN_ASSIGN_OR_RETURN(WrittenImage image,
                          writer_->Write(source, options_, plan, context, *lease));
    image.root.descriptor.annotations.try_emplace(
        kCreated, absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", options_.epoch.value.value_or(absl::Now()),
                                   absl::UTCTimeZone()));
    ExportAnswer answer;
    answer.response = ImageResponse(image);
    if (!names.empty()) answer.response["image.name"] = absl::StrJoin(names, ",");
    answer.root = image.root.descriptor;
    answer.hold = lease;
    KILN_ASSIGN_OR_RETURN(const SessionPtr session,
                          context.sessions->Get(context.session_id, context.cancel));
    KILN_RETURN_IF_ERROR(DropKnownLayers(known_layers_, *writer_->blobs(), &image));
    KILN_RETURN_IF_ERROR(writer_->Complete(image, *lease, context.cancel));
    if (!tar_) {
      KILN_RETURN_IF_ERROR(SendBlobs(*session, image, context));
      return answer;
    }
    KILN_ASSIGN_OR_RETURN(const auto archive, ArchiveSource::Create(writer_->blobs(), image,
                                                                    {image.root, names, docker_}));
    const absl::Status sent = SendTar(*session, *archive, answer.response, context);
    // The client keeps what it has, or declined the stream.
    if (!absl::IsAlreadyExists(sent)) KILN_RETURN_IF_ERROR(sent);
    return answer;
  }

 private:
  static absl::Status SendTar(Session& session, ArchiveSource& archive,
                              const std::map<std::string, std::string>& response,
                              const ExportContext& context) {
    TransferProgress progress(*context.progress, "sending tarball", "");
    int64_t sent = 0;
    return SendFile(session, context.index, response, context.cancel, [&](const ByteSink& sink) {
      return WriteTar(archive, [&](absl::string_view data) {
        if (context.cancel.Cancelled()) return context.cancel.status();
        sent += static_cast<int64_t>(data.size());
        progress.Update(sent);
        return sink(data);
      });
    });
  }

  // Children before parents: what the client's store names is always whole.
  absl::Status SendBlobs(Session& session, const WrittenImage& image,
                         const ExportContext& context) {
    TransferProgress progress(*context.progress, "sending blobs", "");
    int64_t sent = 0;
    const auto send = [&](const Digest& digest) -> absl::Status {
      KILN_ASSIGN_OR_RETURN(const int64_t size, writer_->blobs()->Size(digest));
      KILN_RETURN_IF_ERROR(
          WriteSessionBlob(session, kStoreId, *writer_->blobs(), digest, size, context.cancel));
      progress.Update(sent += size);
      return absl::OkStatus();
    };
    for (const store::LayerBlob& layer : image.layers)
      if (!IsForeignLayer(layer.descriptor.media_type))
        KILN_RETURN_IF_ERROR(send(layer.descriptor.digest));
    for (const store::Descriptor& blob : image.blobs) KILN_RETURN_IF_ERROR(send(blob.digest));
    for (const store::Descriptor& manifest : image.manifests)
      KILN_RETURN_IF_ERROR(send(manifest.digest));
    return absl::OkStatus();
  }

  const std::string name_;
  ImageWriter* const writer_;
  const bool docker_;
  bool tar_ = true;
  std::set<Digest> known_layers_;
  ImageOptions options_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Exporter>> NewArchiveExporter(
    ImageWriter* writer, bool docker, const std::map<std::string, std::string>& attrs) {
  auto exporter = std::make_unique<ArchiveExporter>(writer, docker);
  for (const auto& [key, value] : attrs) KILN_RETURN_IF_ERROR(exporter->Set(key, value));
  return exporter;
}

}  // namespace kiln::daemon
