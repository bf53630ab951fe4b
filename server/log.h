// Structured logs: an event in a few words and fields, one line each, as key=value text or as JSON.
#pragma once

#include <initializer_list>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace spdlog {
class logger;
}

namespace ballast {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  std::string level = "info";   // debug, info, warning, error
  std::string format = "text";  // text, json
};

// One field of a line. Numbers stay numbers in JSON.
struct LogField {
  LogField(std::string_view field, std::string_view text)
      : name(field), value(text), quoted(true) {}
  LogField(std::string_view field, const char* text) : LogField(field, std::string_view(text)) {}
  LogField(std::string_view field, const std::string& text)
      : LogField(field, std::string_view(text)) {}
  template <typename Number>
  requires std::is_arithmetic_v<Number> LogField(std::string_view field, Number number)
      : name(field), value(absl::StrCat(number)), quoted(false) {}

  std::string name;
  std::string value;
  bool quoted;
};

// Any thread may log. Text that came from outside is escaped, so that one event is one line.
class Log {
 public:
  using Fields = std::initializer_list<LogField>;

  // Lines go to `out`, or to stderr when it is null.
  explicit Log(const LogOptions& options, std::ostream* out = nullptr);
  ~Log();

  bool Enabled(LogLevel level) const;
  void Write(LogLevel level, std::string_view event, Fields fields);
  void Debug(std::string_view event, Fields fields = {}) { Write(LogLevel::kDebug, event, fields); }
  void Info(std::string_view event, Fields fields = {}) { Write(LogLevel::kInfo, event, fields); }
  void Warning(std::string_view event, Fields fields = {}) {
    Write(LogLevel::kWarning, event, fields);
  }
  void Error(std::string_view event, Fields fields = {}) { Write(LogLevel::kError, event, fields); }

 private:
  bool json_;
  std::unique_ptr<spdlog::logger> logger_;
};

}  // namespace ballast
