#include "daemon/remotecache/xml_text.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "daemon/registry/response_error.h"

namespace kiln::daemon {

std::string XmlText(absl::string_view xml, absl::string_view name) {
  const std::string open = absl::StrCat("<", name, ">"), close = absl::StrCat("</", name, ">");
  const size_t begin = xml.find(open);
  if (begin == absl::string_view::npos) return "";
  const size_t from = begin + open.size(), end = xml.find(close, from);
  if (end == absl::string_view::npos) return "";
  return absl::StrReplaceAll(
      xml.substr(from, end - from),
      {{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&apos;", "'"}, {"&amp;", "&"}});
}

std::string XmlErrorText(absl::string_view body) {
  const std::string code = XmlText(body, "Code"), message = XmlText(body, "Message");
  if (code.empty()) return ErrorBodyText(body);
  return ErrorBodyText(absl::StrCat(code, message.empty() ? "" : ": ", message));
}

}  // namespace kiln::daemon
