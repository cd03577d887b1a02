#include "daemon/source/image_source.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "daemon/image/media_types.h"
#include "daemon/source/transfer_progress.h"
#include "proto/go_json.h"
#include "solver/kept_progress.h"
#include "store/base/mutex.h"
#include "store/base/status_macros.h"

namespace kiln::daemon {

namespace {

struct ImageSpec {
  ImageLocation location;
  Platform platform;
  std::string record_type;
  std::optional<int> layer_limit;
  std::optional<Digest> checksum;
};

absl::Status SetAttribute(const std::string& key, const std::string& value, ImageSpec* spec) {
  const bool oci = spec->location.oci_layout;
  if (key == (oci ? "oci.layerlimit" : "image.layerlimit")) {
    int limit = 0;
    if (!absl::SimpleAtoi(value, &limit) || limit <= 0)
      return absl::InvalidArgumentError(absl::StrCat("invalid layer limit ", value));
    spec->layer_limit = limit;
  } else if (oci && key == "oci.session") {
    spec->location.store_session_id = value;
  } else if (oci && key == "oci.store") {
    spec->location.store_id = value;
  } else if (!oci && key == "image.resolvemode") {
    // Without an image store beside the registry all modes are one (images-and-cache.md 1.3).
    if (value != "default" && value != "pull" && value != "local")
      return absl::InvalidArgumentError(absl::StrCat("invalid resolvemode: ", value));
  } else if (key == "image.recordtype") {
    if (value != "regular" && value != "internal" && value != "frontend")
      return absl::InvalidArgumentError(absl::StrCat("invalid record type ", value));
    spec->record_type = value;
  } else if (!oci && key == "image.checksum") {
    KILN_ASSIGN_OR_RETURN(spec->checksum, Digest::Parse(value));
  }
  return absl::OkStatus();
}

class ImageInstance : public SourceInstance {
 public:
  ImageInstance(ImageSpec spec, ImageReader* reader, store::LayerStore* layers,
                LayerProgress* progress)
      : spec_(std::move(spec)), reader_(reader), layers_(layers), progress_(progress) {}

  absl::StatusOr<SourceKey> Key(solver::OpContext& context, int index) override;
  absl::StatusOr<store::RefPtr> Snapshot(solver::OpContext& context) override;

 private:
  RegistryCall CallOf(solver::OpContext& context) const;
  absl::StatusOr<store::Descriptor> Root(solver::OpContext& context);
  absl::StatusOr<ChosenImagePtr> Image(solver::OpContext& context);
  // Diff ids and layers that count.
  size_t Count(const ChosenImage& image) const {
    return spec_.layer_limit.has_value() ? static_cast<size_t>(*spec_.layer_limit)
                                         : image.layers.size();
  }
  std::string RootKey(const store::Descriptor& root) const;

  const ImageSpec spec_;
  ImageReader* const reader_;
  store::LayerStore* const layers_;
  LayerProgress* const progress_;
  Mutex mu_;
  std::optional<store::Descriptor> root_ ABSL_GUARDED_BY(mu_);
  ChosenImagePtr image_ ABSL_GUARDED_BY(mu_);
};

RegistryCall ImageInstance::CallOf(solver::OpContext& context) const {
  RegistryCall call;
  call.session_ids = context.SessionIds();
  call.cancel = context.cancel();
  call.log = [&context](absl::string_view line) {
    context.progress().Log({2, absl::StrCat(line, "\n"), absl::Now()});
  };
  return call;
}

absl::StatusOr<store::Descriptor> ImageInstance::Root(solver::OpContext& context) {
  {
    MutexLock lock(&mu_);
    if (root_.has_value()) return *root_;
  }
  const TransferProgress line(context.progress(),
                              absl::StrCat("resolve ", spec_.location.reference.ToString()), "");
  KILN_ASSIGN_OR_RETURN(store::Descriptor root,
                        reader_->Root(spec_.location, CallOf(context), &context.job_values()));
  if (spec_.checksum.has_value() && root.digest != *spec_.checksum)
    return absl::FailedPreconditionError(absl::StrCat(
        "image digest ", root.digest.ToString(), " for ", spec_.location.reference.ToString(),
        " does not match expected checksum ", spec_.checksum->ToString()));
  if (progress_ != nullptr)
    progress_->ShowOrigin(spec_.location.Origin(), solver::KeepProgress(context.progress()));
  MutexLock lock(&mu_);
  root_ = root;
  return root;
}

absl::StatusOr<ChosenImagePtr> ImageInstance::Image(solver::OpContext& context) {
  KILN_ASSIGN_OR_RETURN(const store::Descriptor root, Root(context));
  {
    MutexLock lock(&mu_);
    if (image_ != nullptr) return image_;
  }
  KILN_ASSIGN_OR_RETURN(ChosenImagePtr image,
                        reader_->Choose(spec_.location, root, spec_.platform, CallOf(context)));
  if (Count(*image) > image->layers.size())
    return absl::FailedPreconditionError(
        absl::StrCat("layer limit ", *spec_.layer_limit,
                     " is greater than the number of layers in the image ", image->layers.size()));
  MutexLock lock(&mu_);
  image_ = image;
  return image;
}

std::string ImageInstance::RootKey(const store::Descriptor& root) const {
  GoJson json;
  json.BeginObject().Key("Digest").String(root.digest.ToString());
  json.Key("OS").String(spec_.platform.os).Key("Arch").String(spec_.platform.architecture);
  json.OptString("Variant", spec_.platform.variant);
  json.OptString("OSVersion", spec_.platform.os_version);
  if (!spec_.platform.os_features.empty()) {
    json.Key("OSFeatures").BeginArray();
    for (const std::string& feature : spec_.platform.os_features) json.String(feature);
    json.EndArray();
  }
  if (spec_.layer_limit.has_value()) json.Key("Limit").Int(*spec_.layer_limit);
  json.EndObject();
  return Digest::Of(json.text()).ToString();
}

absl::StatusOr<SourceKey> ImageInstance::Key(solver::OpContext& context, int index) {
  KILN_ASSIGN_OR_RETURN(const store::Descriptor root, Root(context));
  SourceKey key;
  key.key = RootKey(root);
  key.pin = root.digest.ToString();
  key.done = index > 0;
  if (index == 0) return key;
  KILN_ASSIGN_OR_RETURN(const ChosenImagePtr image, Image(context));
  std::vector<Digest> ids = image->facts.diff_ids;
  ids.resize(Count(*image));
  if (image->facts.rootfs_type == "layers" && !ids.empty()) key.key = ChainId(ids).ToString();
  return key;
}

absl::StatusOr<store::RefPtr> ImageInstance::Snapshot(solver::OpContext& context) {
  KILN_ASSIGN_OR_RETURN(const ChosenImagePtr image, Image(context));
  const std::string name = spec_.location.reference.ToString();
  store::RefOptions options;
  options.description = absl::StrCat("pulled from ", name);
  store::RefPtr tree;
  for (size_t i = 0; i < Count(*image); ++i) {
    store::LayerBlob layer;
    layer.descriptor = image->layers[i];
    layer.diff_id = image->facts.diff_ids[i];
    layer.origin = spec_.location.Origin();
    if (!IsLayer(layer.descriptor.media_type))
      return absl::UnimplementedError(
          absl::StrCat("layer ", layer.descriptor.digest.ToString(), " of ", name, ": media type ",
                       layer.descriptor.media_type, " is not supported"));
    layer.created_at = image->facts.created[i];
    layer.description = options.description;
    if (i + 1 == Count(*image) && !spec_.record_type.empty())
      options.record_type = spec_.record_type;
    absl::StatusOr<store::RefPtr> next = layers_->AddLayer(std::move(tree), layer, options);
    KILN_RETURN_IF_ERROR(Annotate(
        next.status(), absl::StrCat("layer ", layer.descriptor.digest.ToString(), " of ", name)));
    tree = *std::move(next);
    if (progress_ != nullptr)
      progress_->Show(layer.descriptor.digest, solver::KeepProgress(context.progress()));
  }
  return tree;
}

}  // namespace

absl::StatusOr<std::shared_ptr<SourceInstance>> ImageSource::Resolve(const SourceSpec& spec) {
  ImageSpec image;
  absl::string_view reference = spec.identifier;
  image.location.oci_layout = absl::ConsumePrefix(&reference, "oci-layout://");
  if (!image.location.oci_layout) absl::ConsumePrefix(&reference, "docker-image://");
  KILN_ASSIGN_OR_RETURN(image.location.reference, Reference::ParseStrict(reference));
  image.platform = spec.platform == Platform() ? HostPlatform() : spec.platform;
  for (const auto& [key, value] : spec.attrs)
    KILN_RETURN_IF_ERROR(Annotate(SetAttribute(key, value, &image), spec.identifier));
  if (image.location.oci_layout && !image.location.reference.digest.has_value())
    return absl::InvalidArgumentError(
        absl::StrCat(spec.identifier, ": an oci-layout source must have a digest"));
  return std::make_shared<ImageInstance>(std::move(image), reader_, layers_, progress_);
}

}  // namespace kiln::daemon
