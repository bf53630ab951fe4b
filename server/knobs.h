// A command's options, each defined once: name, default, range, help, and where its value goes.
// Command-line flags, keys of a YAML file, --help and the documentation all come from that table.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.h"

namespace ballast {

struct Knob {
  std::string name{};    // "kv-memory": --kv-memory; in a file kv-memory or kv_memory
  std::string value{};   // what stands for the value in help: "SIZE"; empty: a switch
  std::string help{};    // one line
  std::string preset{};  // the default, as text; empty: none
  std::string range{};   // what is allowed, in words; empty: said by `value`
  // Takes a value as written; errors say "found X, expected Y".
  std::function<absl::Status(std::string_view)> set{};
  bool positional = false;  // an argument of the command line rather than a flag
  bool repeats = false;     // may be given many times; else the last one counts
  bool in_file = true;      // may stand in the YAML file
  bool hidden = false;      // for tests: not in help and documentation
};

// Knobs over a variable, which must outlive them. Its present value is the default.
Knob TextKnob(std::string name, std::string value, std::string* target, std::string help);
Knob ChoiceKnob(std::string name, std::vector<std::string> choices, std::string* target,
                std::string help);
Knob CountKnob(std::string name, int64_t low, int64_t high, int* target, std::string help);
Knob CountKnob(std::string name, int64_t low, int64_t high, int64_t* target, std::string help);
Knob BytesKnob(std::string name, int64_t* target, std::string help);
Knob SecondsKnob(std::string name, double low, double high, double* target, std::string help);
Knob AddressKnob(std::string name, std::string* target, std::string help);
// Without a default: unset means that the server decides.
Knob OptionalNumberKnob(std::string name, std::optional<double>* target, std::string help);
Knob OptionalCountKnob(std::string name, int64_t low, int64_t high, std::optional<int>* target,
                       std::string help);
// May be given many times.
Knob ListKnob(std::string name, std::string value, std::vector<std::string>* target,
              std::string help);
Knob SwitchKnob(std::string name, bool* target, std::string help);

struct CommandText {
  std::string name{};    // "serve"
  std::string summary;   // what it does
  std::string examples;  // shown at the end of its help
};

// Reads a command line into the knobs. With a knob named "config" that is given, its YAML file is
// read first, so that flags win. Returns text to be printed on stdout instead of running (--help),
// or nothing to go on. Errors are INVALID_ARGUMENT: an unknown flag or key (with
// the nearest known name), a value out of range, a missing argument, a file that can't be read.
absl::StatusOr<std::optional<std::string>> ReadArguments(const CommandText& text,
                                                         const std::vector<Knob>& knobs,
                                                         const std::vector<std::string>& arguments);

// Sets knobs from YAML: one map of scalars. `file` is its name for messages.
absl::Status ReadYaml(const std::string& yaml, const std::string& file,
                      const std::vector<Knob>& knobs);

// The table of knobs as a Markdown section.
std::string DescribeKnobs(const CommandText& text, const std::vector<Knob>& knobs);

// ", did you mean 'NEAREST'?" or, when no name comes near, nothing.
std::string SuggestName(std::string_view found, const std::vector<std::string>& names);

}  // namespace ballast
