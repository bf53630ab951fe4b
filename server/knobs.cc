#include "server/knobs.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "server/units.h"

namespace ballast {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20;
// Names longer than this are never typing errors of ours; it also bounds the distance's cost.
constexpr size_t kMaxNameBytes = 64;

absl::Status Named(const std::string& where, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
}

// Levenshtein's distance.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

absl::StatusOr<int64_t> CountInRange(std::string_view text, int64_t low, int64_t high) {
  const absl::StatusOr<int64_t> count = ParseCount(text);
  if (!count.ok() || *count < low || *count > high) {
    return BadValue(text, absl::StrCat("a whole number, ", low, " to ", high));
  }
  return *count;
}

template <typename Int>
Knob AnyCountKnob(std::string name, int64_t low, int64_t high, Int* target, std::string help) {
  Knob knob{.name = std::move(name), .value = "N", .help = std::move(help)};
  knob.preset = absl::StrCat(*target);
  knob.range = absl::StrCat(low, " to ", high);
  knob.set = [low, high, target](std::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t count, CountInRange(text, low, high));
    *target = static_cast<Int>(count);
    return absl::OkStatus();
  };
  return knob;
}

const Knob* FindKnob(const std::vector<Knob>& knobs, std::string_view name) {
  const auto at = std::find_if(knobs.begin(), knobs.end(),
                               [name](const Knob& knob) { return knob.name == name; });
  return at == knobs.end() ? nullptr : &*at;
}

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::InvalidArgumentError(absl::StrCat("--config: cannot read '", path, "'"));
  }
  std::string text(kMaxConfigBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) {
    return absl::InvalidArgumentError(absl::StrCat("--config: cannot read '", path, "'"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: ", path, " is larger than ", kMaxConfigBytes, " bytes"));
  }
  return text;
}

std::string KnobHelp(const Knob& knob) {
  std::string help = knob.help;
  if (!knob.range.empty()) absl::StrAppend(&help, "; ", knob.range);
  if (!knob.preset.empty()) absl::StrAppend(&help, " [", knob.preset, "]");
  return help;
}

using Given = std::map<std::string, std::vector<std::string>>;

void AddOption(CLI::App& app, const Knob& knob, Given& given) {
  if (knob.value.empty()) {
    app.add_flag_callback(
           "--" + knob.name, [&given, name = knob.name] { given[name] = {"true"}; }, KnobHelp(knob))
        ->group(knob.hidden ? "" : "Options");
    return;
  }
  CLI::Option* option = app.add_option(
      knob.positional ? knob.value : "--" + knob.name,
      [&given, name = knob.name](const CLI::results_t& values) {
        given[name] = values;
        return true;
      },
      KnobHelp(knob));
  // CLI11 would split a value such as [a,b] into two where more arguments are allowed.
  option->type_name(knob.positional ? "" : knob.value)->allow_extra_args(false);
  if (knob.hidden) option->group("");
  option->multi_option_policy(knob.repeats ? CLI::MultiOptionPolicy::TakeAll
                                           : CLI::MultiOptionPolicy::TakeLast);
}

absl::Status UnknownArgument(const std::vector<std::string>& rest, const std::vector<Knob>& knobs) {
  for (const std::string& argument : rest) {
    if (argument.size() < 2 || argument[0] != '-') continue;
    const std::string flag = argument.substr(0, argument.find('='));
    std::vector<std::string> names;
    for (const Knob& knob : knobs) {
      if (!knob.positional && !knob.hidden) names.push_back("--" + knob.name);
    }
    return absl::InvalidArgumentError(
        absl::StrCat("unknown option '", flag, "'", SuggestName(flag, names)));
  }
  return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", rest.front(), "'"));
}

absl::Status Apply(const std::vector<Knob>& knobs, const Given& given) {
  if (const auto config = given.find("config"); config != given.end()) {
    const std::string& path = config->second.back();
    ASSIGN_OR_RETURN(const std::string yaml, ReadConfigFile(path));
    RETURN_IF_ERROR(ReadYaml(yaml, path, knobs));
  }
  for (const auto& [name, values] : given) {
    const Knob* knob = FindKnob(knobs, name);
    CHECK(knob != nullptr);
    for (const std::string& value : values) {
      const std::string where = knob->positional ? knob->value : "--" + name;
      RETURN_IF_ERROR(Named(where, knob->set(value)));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadYamlMap(const YAML::Node& root, const std::string& file,
                         const std::vector<Knob>& knobs) {
  std::vector<std::string> names;
  for (const Knob& knob : knobs) {
    if (knob.in_file && !knob.hidden) names.push_back(knob.name);
  }
  std::set<std::string> seen;
  for (const auto& entry : root) {
    const int line = entry.first.Mark().line + 1;
    if (!entry.first.IsScalar()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ":", line, ": found a key that is not a name"));
    }
    const std::string key = entry.first.Scalar();
    const std::string where = absl::StrCat(file, ":", line, ": ", key);
    const std::string name = absl::StrReplaceAll(key, {{"_", "-"}});
    const Knob* knob = FindKnob(knobs, name);
    if (knob == nullptr || !knob->in_file) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ":", line, ": unknown key '", key, "'", SuggestName(name, names)));
    }
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": found twice, expected once"));
    }
    if (!entry.second.IsScalar()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ": found ", entry.second.IsNull() ? "nothing" : "a list or a map",
                       ", expected one value"));
    }
    RETURN_IF_ERROR(Named(where, knob->set(entry.second.Scalar())));
  }
  return absl::OkStatus();
}

}  // namespace

Knob TextKnob(std::string name, std::string value, std::string* target, std::string help) {
  Knob knob{.name = std::move(name), .value = std::move(value), .help = std::move(help)};
  knob.preset = *target;
  knob.set = [target](std::string_view text) {
    *target = std::string(text);
    return absl::OkStatus();
  };
  return knob;
}

Knob ChoiceKnob(std::string name, std::vector<std::string> choices, std::string* target,
                std::string help) {
  Knob knob{.name = std::move(name), .help = std::move(help)};
  knob.value = absl::StrJoin(choices, "|");
  knob.preset = *target;
  knob.set = [target, choices = std::move(choices)](std::string_view text) -> absl::Status {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return BadValue(text, absl::StrCat("one of ", absl::StrJoin(choices, ", ")));
    }
    *target = std::string(text);
    return absl::OkStatus();
  };
  return knob;
}

Knob CountKnob(std::string name, int64_t low, int64_t high, int* target, std::string help) {
  return AnyCountKnob(std::move(name), low, high, target, std::move(help));
}

Knob CountKnob(std::string name, int64_t low, int64_t high, int64_t* target, std::string help) {
  return AnyCountKnob(std::move(name), low, high, target, std::move(help));
}

Knob BytesKnob(std::string name, int64_t* target, std::string help) {
  Knob knob{.name = std::move(name), .value = "SIZE", .help = std::move(help)};
  knob.preset = *target == 0 ? "0" : absl::StrReplaceAll(FormatBytes(*target), {{" ", ""}});
  knob.set = [target](std::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(*target, ParseBytes(text));
    return absl::OkStatus();
  };
  return knob;
}

Knob SecondsKnob(std::string name, double low, double high, double* target, std::string help) {
  Knob knob{.name = std::move(name), .value = "TIME", .help = std::move(help)};
  knob.preset = FormatSeconds(*target);
  knob.range = absl::StrCat(FormatSeconds(low), " to ", FormatSeconds(high));
  knob.set = [low, high, target, range = knob.range](std::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const double seconds, ParseSeconds(text));
    if (seconds < low || seconds > high) return BadValue(text, range);
    *target = seconds;
    return absl::OkStatus();
  };
  return knob;
}

Knob AddressKnob(std::string name, std::string* target, std::string help) {
  Knob knob = TextKnob(std::move(name), "HOST:PORT", target, std::move(help));
  knob.set = [target](std::string_view text) -> absl::Status {
    RETURN_IF_ERROR(ParseHostPort(text).status());
    *target = std::string(text);
    return absl::OkStatus();
  };
  return knob;
}

Knob OptionalNumberKnob(std::string name, std::optional<double>* target, std::string help) {
  Knob knob{.name = std::move(name), .value = "X", .help = std::move(help)};
  knob.set = [target](std::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(*target, ParseNumber(text));
    return absl::OkStatus();
  };
  return knob;
}

Knob OptionalCountKnob(std::string name, int64_t low, int64_t high, std::optional<int>* target,
                       std::string help) {
  Knob knob{.name = std::move(name), .value = "N", .help = std::move(help)};
  knob.range = absl::StrCat(low, " to ", high);
  knob.set = [low, high, target](std::string_view text) -> absl::Status {
    ASSIGN_OR_RETURN(const int64_t count, CountInRange(text, low, high));
    *target = static_cast<int>(count);
    return absl::OkStatus();
  };
  return knob;
}

Knob ListKnob(std::string name, std::string value, std::vector<std::string>* target,
              std::string help) {
  Knob knob{.name = std::move(name), .value = std::move(value), .help = std::move(help)};
  knob.repeats = true;
  knob.set = [target](std::string_view text) {
    target->emplace_back(text);
    return absl::OkStatus();
  };
  return knob;
}

Knob SwitchKnob(std::string name, bool* target, std::string help) {
  Knob knob{.name = std::move(name), .help = std::move(help)};
  knob.set = [target](std::string_view text) -> absl::Status {
    if (text != "true" && text != "false") return BadValue(text, "true or false");
    *target = text == "true";
    return absl::OkStatus();
  };
  return knob;
}

absl::StatusOr<std::optional<std::string>> ReadArguments(
    const CommandText& text, const std::vector<Knob>& knobs,
    const std::vector<std::string>& arguments) {
  CLI::App app(text.summary, "ballast " + text.name);
  app.set_help_flag("-h,--help", "Print this and exit");
  app.get_formatter()->column_width(38);
  app.footer(text.examples);
  app.allow_extras();
  Given given;
  for (const Knob& knob : knobs) AddOption(app, knob, given);
  try {
    // CLI11 takes a vector of arguments last one first.
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp&) {
    return app.help();
  } catch (const std::exception& error) {  // CLI::ParseError, and what bad numbers throw
    return absl::InvalidArgumentError(error.what());
  }
  std::vector<std::string> rest = app.remaining();
  // "--" is left over too: what follows it is not a flag.
  if (const auto mark = std::find(rest.begin(), rest.end(), "--"); mark != rest.end()) {
    rest.erase(mark);
  }
  if (!rest.empty()) return UnknownArgument(rest, knobs);
  RETURN_IF_ERROR(Apply(knobs, given));
  return std::nullopt;
}

absl::Status ReadYaml(const std::string& yaml, const std::string& file,
                      const std::vector<Knob>& knobs) {
  try {
    const YAML::Node root = YAML::Load(yaml);
    if (root.IsNull()) return absl::OkStatus();
    if (!root.IsMap()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": found something else, expected a map of options"));
    }
    return ReadYamlMap(root, file, knobs);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  }
}

std::string DescribeKnobs(const CommandText& text, const std::vector<Knob>& knobs) {
  std::ostringstream page;
  page << "## ballast " << text.name << "\n\n" << text.summary << "\n\n";
  page << "| option | default | what |\n|---|---|---|\n";
  for (const Knob& knob : knobs) {
    if (knob.hidden) continue;
    const std::string value = absl::StrReplaceAll(knob.value, {{"|", "\\|"}});
    page << "| `" << (knob.positional ? value : "--" + knob.name);
    if (!knob.positional && !value.empty()) page << " " << value;
    page << "` | " << knob.preset << " | " << absl::StrReplaceAll(knob.help, {{"|", "\\|"}});
    if (!knob.range.empty()) page << "; " << knob.range;
    page << " |\n";
  }
  return page.str();
}

std::string SuggestName(std::string_view found, const std::vector<std::string>& names) {
  const std::string_view bounded = found.substr(0, kMaxNameBytes);
  // A third of the letters wrong is still a slip; more is another word.
  size_t nearest_distance = std::max<size_t>(bounded.size() / 3, 2) + 1;
  const std::string* nearest = nullptr;
  for (const std::string& name : names) {
    const size_t distance = EditDistance(bounded, name);
    if (distance < nearest_distance) {
      nearest_distance = distance;
      nearest = &name;
    }
  }
  if (nearest == nullptr) return "";
  return absl::StrCat(", did you mean '", *nearest, "'?");
}

}  // namespace ballast
