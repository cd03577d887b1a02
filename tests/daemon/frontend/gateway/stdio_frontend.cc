// A frontend as an image has it: a static program that speaks LLBBridge over its standard input and
// output. The option `mode` tells what it does.
#include <fcntl.h>
#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/support/channel_arguments.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>

#include "proto/buildkit/gateway.grpc.pb.h"

extern char** environ;

namespace {

namespace pbf = moby::buildkit::v1::frontend;
using Stub = pbf::LLBBridge::Stub;

// Ends the program when a call failed.
void Check(const grpc::Status& status, const char* what) {
  if (status.ok()) return;
  fprintf(stderr, "%s: %s\n", what, status.error_message().c_str());
  _exit(3);
}

std::map<std::string, std::string> Options() {
  std::map<std::string, std::string> options;
  const std::string prefix = "BUILDKIT_FRONTEND_OPT_";
  for (char** one = environ; *one != nullptr; ++one) {
    const std::string text = *one;
    if (text.compare(0, prefix.size(), prefix) != 0) continue;
    const size_t key = text.find('=') + 1, value = text.find('=', key);
    options[text.substr(key, value - key)] = text.substr(value + 1);
  }
  return options;
}

void Pump(int from, int to, int socket) {
  char buffer[64 << 10];
  for (ssize_t got; (got = read(from, buffer, sizeof(buffer))) > 0;)
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = write(to, buffer + done, got - done);
      if (put <= 0) return;
      done += put;
    }
  shutdown(socket, SHUT_RDWR);
}

// Two descriptors, each for one direction, as one connection.
std::unique_ptr<Stub> Connect() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) _exit(4);
  fcntl(pair[0], F_SETFL, O_NONBLOCK);
  std::thread(Pump, 0, pair[1], pair[1]).detach();
  std::thread(Pump, pair[1], 1, pair[1]).detach();
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(16 << 20);
  return pbf::LLBBridge::NewStub(
      grpc::CreateCustomInsecureChannelFromFd("frontend", pair[0], args));
}

std::string Solve(Stub& stub, const pbf::SolveRequest& asked) {
  pbf::SolveRequest request = asked;
  request.set_allowresultreturn(true);
  request.set_allowresultarrayref(true);
  grpc::ClientContext context;
  pbf::SolveResponse response;
  Check(stub.Solve(&context, request, &response), "solve");
  return response.result().ref().id();
}

std::string ReadFile(Stub& stub, const std::string& ref, const std::string& path) {
  grpc::ClientContext context;
  pbf::ReadFileRequest request;
  request.set_ref(ref);
  request.set_filepath(path);
  pbf::ReadFileResponse response;
  Check(stub.ReadFile(&context, request, &response), "read");
  return response.data();
}

// Runs a program in a container over `root`; gives its output.
std::string RunInContainer(Stub& stub, const std::string& root, const std::string& script) {
  pbf::NewContainerRequest container;
  container.set_containerid("c1");
  container.add_mounts()->set_dest("/");
  container.mutable_mounts(0)->set_resultid(root);
  grpc::ClientContext context;
  pbf::NewContainerResponse made;
  Check(stub.NewContainer(&context, container, &made), "new container");
  grpc::ClientContext exec_context;
  auto exec = stub.ExecProcess(&exec_context);
  pbf::ExecMessage message;
  message.set_processid("p1");
  auto* init = message.mutable_init();
  init->set_containerid("c1");
  for (const std::string& arg : {std::string("/bin/sh"), std::string("-c"), script})
    init->mutable_meta()->add_args(arg);
  init->mutable_meta()->add_env("PATH=/bin");
  init->add_fds(1);
  exec->Write(message);
  std::string output;
  while (exec->Read(&message)) {
    if (message.has_file()) output += message.file().data();
    if (message.has_exit()) output += "exit " + std::to_string(message.exit().code());
    if (message.has_done()) break;
  }
  exec->WritesDone();
  Check(exec->Finish(), "exec");
  grpc::ClientContext release_context;
  pbf::ReleaseContainerRequest release;
  release.set_containerid("c1");
  pbf::ReleaseContainerResponse released;
  Check(stub.ReleaseContainer(&release_context, release, &released), "release");
  return output;
}

void Return(Stub& stub, const pbf::ReturnRequest& request) {
  grpc::ClientContext context;
  pbf::ReturnResponse response;
  Check(stub.Return(&context, request, &response), "return");
}

// Says more than anybody reads, `bytes` in all.
void Flood(uint64_t bytes) {
  const std::string line(1023, 'x');
  for (uint64_t said = 0; said < bytes; said += line.size() + 1)
    fprintf(stderr, "%s\n", line.c_str());
  fprintf(stderr, "that was all\n");
}

// As many refs as `count`, never looked at, of definitions of `bytes` each.
void OpenRefs(Stub& stub, uint64_t count, uint64_t bytes) {
  pbf::SolveRequest solve;
  pb::Op op;
  for (uint64_t i = 0; i < count; ++i) {
    auto* file = op.mutable_file()->mutable_actions();
    file->Clear();
    auto* made = file->Add();
    made->set_input(-1);
    made->set_secondaryinput(-1);
    made->set_output(0);
    made->mutable_mkfile()->set_path("/f");
    made->mutable_mkfile()->set_data(std::to_string(i) + std::string(bytes, 'x'));
    solve.mutable_definition()->clear_def();
    solve.mutable_definition()->add_def(op.SerializeAsString());
    solve.mutable_definition()->add_def(pb::Op().SerializeAsString());
    Solve(stub, solve);
  }
  ReadFile(stub, "no-such-ref", "/");
}

// Starts `count` containers over the input "base", each with a process that stays.
void LeaveContainers(Stub& stub, int count) {
  grpc::ClientContext inputs_context;
  pbf::InputsResponse inputs;
  Check(stub.Inputs(&inputs_context, pbf::InputsRequest(), &inputs), "inputs");
  pbf::SolveRequest solve;
  *solve.mutable_definition() = inputs.definitions().at("base");
  const std::string base = Solve(stub, solve);
  // Never destroyed: the streams stay open.
  auto* const context = new grpc::ClientContext();
  auto* const exec = stub.ExecProcess(context).release();
  for (int i = 0; i < count; ++i) {
    pbf::NewContainerRequest container;
    container.set_containerid("c" + std::to_string(i));
    container.add_mounts()->set_dest("/");
    container.mutable_mounts(0)->set_resultid(base);
    grpc::ClientContext container_context;
    pbf::NewContainerResponse made;
    Check(stub.NewContainer(&container_context, container, &made), "new container");
    pbf::ExecMessage message;
    message.set_processid("p" + std::to_string(i));
    auto* init = message.mutable_init();
    init->set_containerid(container.containerid());
    for (const char* arg : {"/bin/sh", "-c", "sleep 1000 & sleep 1000"})
      init->mutable_meta()->add_args(arg);
    init->mutable_meta()->add_env("PATH=/bin");
    exec->Write(message);
  }
  pbf::ExecMessage message;
  for (int started = 0; started < count && exec->Read(&message);)
    if (message.has_started()) ++started;
  fprintf(stderr, "left %d\n", count);
}

// Uses what there is, and tells it in the result's metadata.
void Whole(Stub& stub) {
  grpc::ClientContext inputs_context;
  pbf::InputsResponse inputs;
  Check(stub.Inputs(&inputs_context, pbf::InputsRequest(), &inputs), "inputs");
  pbf::SolveRequest solve;
  *solve.mutable_definition() = inputs.definitions().at("base");
  const std::string base = Solve(stub, solve);
  pbf::ReturnRequest done;
  done.mutable_result()->mutable_ref()->set_id(base);
  auto& metadata = *done.mutable_result()->mutable_metadata();
  metadata["frontend.file"] = ReadFile(stub, base, "/etc/motd");
  metadata["frontend.run"] = RunInContainer(stub, base, "cat /etc/motd; exit 5");
  std::ifstream self("/run/config/buildkit/metadata/frontend.bin");
  std::stringstream definition;
  definition << self.rdbuf();
  metadata["frontend.self"] = std::to_string(definition.str().size());
  metadata["frontend.session"] = getenv("BUILDKIT_SESSION_ID");
  metadata["frontend.workers"] = getenv("BUILDKIT_WORKERS");
  Return(stub, done);
}

}  // namespace

int main() {
  const std::map<std::string, std::string> options = Options();
  const std::string mode = options.count("mode") ? options.at("mode") : "";
  if (mode == "garbage") {
    for (int i = 0; i < 1000; ++i) printf("this is no HTTP/2\n");
    fflush(stdout);
    pause();
  }
  if (mode == "closed" || mode == "closed-flood") {
    close(0);
    close(1);
    if (mode == "closed-flood") Flood(~uint64_t{0});
    pause();
  }
  grpc_init();
  const auto stub = Connect();
  grpc::ClientContext context;
  pbf::PongResponse pong;
  Check(stub->Ping(&context, pbf::PingRequest(), &pong), "ping");
  if (mode == "whole") Whole(*stub);
  if (mode == "fail") {
    pbf::ReturnRequest request;
    request.mutable_error()->set_code(5);
    request.mutable_error()->set_message("line 7 is wrong");
    Return(*stub, request);
  }
  if (mode == "crash") {
    fprintf(stderr, "some\nlast words\n");
    _exit(7);
  }
  const auto number = [&](const char* key) {
    return options.count(key) ? strtoull(options.at(key).c_str(), nullptr, 10) : 0;
  };
  if (mode == "flood") {
    Flood(number("bytes"));
    _exit(7);
  }
  if (mode == "refs") OpenRefs(*stub, number("count"), number("bytes"));
  if (mode == "leave") LeaveContainers(*stub, static_cast<int>(number("count")));
  if (mode == "big") {
    pbf::SolveRequest solve;
    solve.mutable_definition()->add_def(std::string(number("bytes"), 'x'));
    Solve(*stub, solve);
  }
  if (mode == "wait" || options.count("then-wait")) {
    fprintf(stderr, "waiting\n");
    pause();
  }
  _exit(0);  // "silent": without an answer
}
