// Commands over the images that the daemon keeps by name: images, tag, push, rmi.
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/call_context.h"
#include "client/cli/command.h"
#include "client/grpc_status.h"
#include "client/progress/text.h"
#include "client/session/session.h"
#include "proto/kiln/images.grpc.pb.h"
#include "store/base/status_macros.h"

namespace kiln::client {
namespace {

using v1::Images;

// Daemons of others keep no images.
absl::Status Explain(const absl::Status& status) {
  if (!absl::IsUnimplemented(status)) return status;
  return absl::UnimplementedError("this daemon keeps no images by name: it is not kilnd");
}

std::string ShortDigest(const std::string& digest) { return digest.substr(0, 7 + 12); }

class ImagesCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("images", "list the images that the daemon keeps by name");
    sub->add_flag("--json", json_, "one JSON object a line");
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    CallContext context(globals);
    v1::ListImagesResponse response;
    KILN_RETURN_IF_ERROR(Explain(
        FromGrpc(Images::NewStub(connection->channel())->List(context.get(), {}, &response))));
    if (json_) {
      for (const v1::Image& image : response.images()) PrintJson(image);
      return absl::OkStatus();
    }
    std::cout << absl::StreamFormat("%-50s %-20s %-12s %-10s %s\n", "NAME", "DIGEST", "CREATED",
                                    "SIZE", "PLATFORMS");
    for (const v1::Image& image : response.images()) {
      const absl::Time created = absl::FromUnixMillis(image.created_at_ms());
      std::cout << absl::StreamFormat(
          "%-50s %-20s %-12s %-10s %s\n", image.name(), ShortDigest(image.digest()),
          absl::FormatTime("%Y-%m-%d", created, absl::LocalTimeZone()),
          image.size_bytes() > 0 ? FormatBytes(image.size_bytes()) : "damaged",
          absl::StrJoin(image.platforms(), ","));
    }
    return absl::OkStatus();
  }

 private:
  static void PrintJson(const v1::Image& image) {
    nlohmann::json json = {{"name", image.name()},
                           {"digest", image.digest()},
                           {"mediaType", image.media_type()},
                           {"createdAtMs", image.created_at_ms()},
                           {"sizeBytes", image.size_bytes()},
                           {"missingBytes", image.missing_bytes()}};
    json["platforms"] =
        std::vector<std::string>(image.platforms().begin(), image.platforms().end());
    std::cout << json.dump() << "\n";
  }

  bool json_ = false;
};

class TagCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("tag", "give an image that the daemon keeps one more name");
    sub->add_option("SOURCE", source_, "its name")->required();
    sub->add_option("TARGET", target_, "the new name")->required();
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    CallContext context(globals);
    v1::TagImageRequest request;
    request.set_source(source_);
    request.set_target(target_);
    v1::TagImageResponse response;
    return Explain(
        FromGrpc(Images::NewStub(connection->channel())->Tag(context.get(), request, &response)));
  }

 private:
  std::string source_, target_;
};

class RemoveImagesCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("rmi", "remove names of images that the daemon keeps");
    sub->add_option("NAME", names_, "names to remove")->required();
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    CallContext context(globals);
    v1::RemoveImagesRequest request;
    for (const std::string& name : names_) request.add_names(name);
    v1::RemoveImagesResponse response;
    KILN_RETURN_IF_ERROR(Explain(FromGrpc(
        Images::NewStub(connection->channel())->Remove(context.get(), request, &response))));
    for (const v1::Image& image : response.removed()) std::cout << image.name() << "\n";
    return absl::OkStatus();
  }

 private:
  std::vector<std::string> names_;
};

class PushCommand : public Command {
 public:
  CLI::App* Add(CLI::App* app) override {
    CLI::App* sub = app->add_subcommand("push", "upload an image that the daemon keeps");
    sub->add_option("NAME", name_, "its name, and where it goes")->required();
    sub->add_flag("--insecure", insecure_, "plain http, or any certificate");
    return sub;
  }

  absl::Status Run(const Globals& globals) override {
    KILN_ASSIGN_OR_RETURN(const auto connection, globals.Connect());
    // The daemon asks it for credentials.
    KILN_ASSIGN_OR_RETURN(const auto session, Session::Open(*connection, SessionOptions()));
    CallContext context(globals);
    v1::PushImageRequest request;
    request.set_name(name_);
    request.set_insecure(insecure_);
    request.add_session(session->id());
    const auto stream = Images::NewStub(connection->channel())->Push(context.get(), request);
    v1::PushImageProgress progress;
    std::string digest;
    while (stream->Read(&progress)) {
      if (!progress.line().empty()) std::cerr << progress.line() << "\n";
      if (!progress.digest().empty()) digest = progress.digest();
    }
    const absl::Status status = Explain(FromGrpc(stream->Finish()));
    session->Close();
    KILN_RETURN_IF_ERROR(status);
    std::cout << digest << "\n";
    return absl::OkStatus();
  }

 private:
  std::string name_;
  bool insecure_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeImagesCommand() { return std::make_unique<ImagesCommand>(); }
std::unique_ptr<Command> MakeTagCommand() { return std::make_unique<TagCommand>(); }
std::unique_ptr<Command> MakeRemoveImagesCommand() {
  return std::make_unique<RemoveImagesCommand>();
}
std::unique_ptr<Command> MakePushCommand() { return std::make_unique<PushCommand>(); }

}  // namespace kiln::client
