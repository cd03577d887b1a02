#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/digest.h"

namespace kiln::store {

// Names one blob of an image (OCI image-spec, descriptor). A plain value.
struct Descriptor {
  std::string media_type;
  Digest digest;
  int64_t size_bytes = 0;  // 0 or less: not known
  std::map<std::string, std::string> annotations = {};
  std::vector<std::string> urls = {};  // foreign layers: where else the bytes are

  friend bool operator==(const Descriptor& a, const Descriptor& b) {
    return a.media_type == b.media_type && a.digest == b.digest && a.size_bytes == b.size_bytes &&
           a.annotations == b.annotations && a.urls == b.urls;
  }
};

// Layer types are kept in their OCI form everywhere inside; an exporter translates when asked for
// docker's.
inline constexpr char kOciLayerTar[] = "application/vnd.oci.image.layer.v1.tar";
inline constexpr char kOciLayerGzip[] = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr char kOciLayerZstd[] = "application/vnd.oci.image.layer.v1.tar+zstd";

// Of estargz layers: what a lazy mount needs to know.
inline constexpr char kTocDigestAnnotation[] = "containerd.io/snapshot/stargz/toc.digest";
inline constexpr char kUncompressedSizeAnnotation[] = "io.containers.estargz.uncompressed-size";

}  // namespace kiln::store
