// Our proto files against the names, numbers and types of BuildKit v0.32.2, as its descriptors list
// them: clients that use reflection or JSON see what they would see there.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace kiln {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

using Lines = std::map<std::string, std::string>;  // what is described -> its name and type

std::string TypeOf(const FieldDescriptor& field) {
  std::string type = field.type_name();
  if (field.message_type() != nullptr) type = field.message_type()->full_name();
  if (field.enum_type() != nullptr) type = field.enum_type()->full_name();
  return absl::StrCat(field.is_repeated() ? "repeated " : "", type);
}

void Describe(const EnumDescriptor& type, Lines& lines) {
  for (int i = 0; i < type.value_count(); ++i)
    lines[absl::StrCat("value ", type.full_name(), " ", type.value(i)->number())] =
        type.value(i)->name();
}

void Describe(const Descriptor& type, Lines& lines) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    lines[absl::StrCat("field ", type.full_name(), " ", field.number())] =
        absl::StrCat(field.name(), " ", TypeOf(field));
  }
  for (int i = 0; i < type.nested_type_count(); ++i) Describe(*type.nested_type(i), lines);
  for (int i = 0; i < type.enum_type_count(); ++i) Describe(*type.enum_type(i), lines);
}

void Describe(const ServiceDescriptor& service, Lines& lines) {
  for (int i = 0; i < service.method_count(); ++i) {
    const MethodDescriptor& method = *service.method(i);
    lines[absl::StrCat("rpc ", service.full_name(), " ", method.name())] = absl::StrCat(
        method.client_streaming() ? "stream " : "", method.input_type()->full_name(),
        method.server_streaming() ? " stream " : " ", method.output_type()->full_name());
  }
}

Lines Ours() {
  google::protobuf::FileDescriptorSet files;
  std::ifstream in(KILN_DESCRIPTORS, std::ios::binary);
  EXPECT_TRUE(files.ParseFromIstream(&in)) << KILN_DESCRIPTORS;
  google::protobuf::DescriptorPool pool;
  Lines lines;
  for (const auto& each : files.file()) {  // imports come before their importers
    const FileDescriptor* file = pool.BuildFile(each);
    if (file == nullptr) {
      ADD_FAILURE() << each.name();
      continue;
    }
    for (int i = 0; i < file->message_type_count(); ++i) Describe(*file->message_type(i), lines);
    for (int i = 0; i < file->enum_type_count(); ++i) Describe(*file->enum_type(i), lines);
    for (int i = 0; i < file->service_count(); ++i) Describe(*file->service(i), lines);
  }
  return lines;
}

Lines Theirs() {
  std::ifstream in(KILN_TESTDATA "/wire/buildkit-v0.32.2.txt");
  Lines lines;
  for (std::string line; std::getline(in, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
    EXPECT_EQ(words.size(), 4u) << line;
    if (words.size() == 4) lines[absl::StrCat(words[0], " ", words[1], " ", words[2])] = words[3];
  }
  return lines;
}

// Same bytes on the wire, other accessors here (proto/DESIGN.md).
const Lines& OwnNames() {
  static const auto* const names = new Lines{
      {"field moby.buildkit.v1.frontend.Blob 1",
       "blob_descriptor moby.buildkit.v1.frontend.Descriptor"},
      {"field fsutil.types.Stat 10", "xattrs repeated fsutil.types.Xattr"},
  };
  return *names;
}

bool Compatible(const std::string& what, const std::string& theirs, const std::string& ours) {
  if (ours == theirs) return true;
  // Texts that Go does not check as UTF-8.
  if (absl::EndsWith(theirs, "string") &&
      ours == absl::StrCat(theirs.substr(0, theirs.size() - 6), "bytes"))
    return true;
  const auto own = OwnNames().find(what);
  return own != OwnNames().end() && own->second == ours;
}

TEST(WireNames, EverythingOfBuildKitIsThere) {
  const Lines ours = Ours(), theirs = Theirs();
  EXPECT_GT(theirs.size(), 700u);
  for (const auto& [what, name] : theirs) {
    if (absl::StartsWith(what, "field fsutil.types.Stat.XattrsEntry ")) continue;
    const auto found = ours.find(what);
    if (found == ours.end())
      ADD_FAILURE() << what << " (" << name << ") is missing";
    else
      EXPECT_TRUE(Compatible(what, name, found->second))
          << what << ": " << name << " there, " << found->second << " here";
  }
}

// A number of our own in a message of theirs would collide with what they add next.
TEST(WireNames, NothingOfOursIsInTheirMessages) {
  const Lines ours = Ours(), theirs = Theirs();
  for (const auto& [what, name] : ours) {
    const std::vector<std::string> words = absl::StrSplit(what, ' ');
    if (words[0] == "rpc") continue;
    const std::string members = absl::StrCat(words[0], " ", words[1], " ");
    const auto next = theirs.lower_bound(members);
    if (next == theirs.end() || !absl::StartsWith(next->first, members)) continue;
    EXPECT_TRUE(theirs.contains(what)) << what << " " << name;
  }
}

}  // namespace
}  // namespace kiln
