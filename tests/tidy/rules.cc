#include "tests/tidy/rules.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>

namespace ballast::tidy {
namespace {

bool StartsWithAny(std::string_view text, const std::vector<std::string_view>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return text.starts_with(prefix); });
}

std::string Joined(const std::vector<std::string_view>& parts) {
  std::string joined;
  for (const std::string_view part : parts) {
    if (!joined.empty()) joined += ", ";
    joined += part;
  }
  return joined;
}

std::string_view FolderOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

// "engine/moe/router.cc" -> "router".
std::string_view StemOf(std::string_view path) {
  path.remove_prefix(path.rfind('/') + 1);  // npos + 1 is 0
  return path.substr(0, path.find('.'));
}

const std::vector<std::string_view>& OurFolders() {
  static const std::vector<std::string_view> folders = {"kernels/", "engine/", "server/",
                                                        "tests/",   "bench/",  "tools/"};
  return folders;
}

// What the files of a room may include of ours; the first room that fits a path counts.
struct Room {
  std::string_view folder;
  std::vector<std::string_view> may_include;
};

const std::vector<Room>& Rooms() {
  static const std::vector<Room> rooms = {
      {"kernels/", {"kernels/"}},
      {"engine/comm/",
       {"engine/comm/", "engine/concat.h", "engine/status.h", "engine/synchronize.h", "kernels/"}},
      {"engine/moe/",
       {"engine/moe/", "engine/comm/", "engine/concat.h", "engine/status.h", "engine/synchronize.h",
        "kernels/"}},
      {"engine/tokenizer/", {"engine/tokenizer/", "engine/concat.h", "engine/status.h"}},
      {"engine/checkpoint/",
       {"engine/checkpoint/", "engine/concat.h", "engine/model/", "engine/status.h",
        "kernels/device.h"}},
      {"engine/model/",
       {"engine/model/", "engine/moe/", "engine/comm/", "engine/checkpoint/", "engine/concat.h",
        "engine/status.h", "engine/step.h", "engine/synchronize.h", "kernels/device.h"}},
      {"engine/", {"engine/", "kernels/"}},
      {"server/",
       {"server/",
        "engine/engine.h",
        "engine/initial_placement.h",
        "engine/inspection.h",
        "engine/options.h",
        "engine/request.h",
        "engine/status.h",
        "engine/step.h",
        "engine/balancing.h",
        "engine/checkpoint/",
        "engine/comm/memory_rendezvous.h",
        "engine/comm/rendezvous.h",
        "engine/follower.h",
        "engine/join_facts.h",
        "engine/model/",
        "engine/moe/placement",
        "engine/process_group.h",
        "engine/moe/cost_parameters.h",
        "engine/tokenizer/",
        "kernels/device.h",
        "kernels/cpu/cpu_device.h"}},
      {"tests/", {"kernels/", "engine/", "server/", "tests/", "bench/", "tools/"}},
      {"bench/", {"kernels/", "engine/", "server/", "bench/", "tools/"}},
      {"tools/", {"kernels/", "engine/", "tools/"}},
  };
  return rooms;
}

struct LibraryRoom {
  std::vector<std::string_view> headers;  // prefixes of the include's target
  std::vector<std::string_view> folders;
};

const std::vector<LibraryRoom>& LibraryRoomTable() {
  // Tests, benchmarks and fuzz targets of the server speak to it as a client does.
  static const std::vector<std::string_view> wire = {"server/", "tests/server/",
                                                     "tests/integration/", "tests/fuzz/", "bench/"};
  static const std::vector<LibraryRoom> table = {
      {{"grpc/", "grpcpp/", "google/", "ballast/v1/"}, wire},
      {{"prometheus/", "spdlog/"}, wire},
      {{"boost/"},
       {"server/", "tests/server/", "tests/integration/", "tests/fuzz/", "bench/",
        "kernels/cuda/emulator/"}},
      {{"yaml-cpp/"}, {"server/", "tests/", "engine/moe/document"}},
      {{"CLI/"}, {"server/", "tools/", "bench/"}},
      {{"simdjson.h", "nlohmann/"},
       {"engine/checkpoint/", "engine/model/", "engine/moe/document", "engine/tokenizer/",
        "server/", "tests/", "tools/", "bench/"}},
      {{"pcre2"}, {"engine/tokenizer/"}},
      {{"utf8proc"}, {"engine/tokenizer/", "server/"}},
      {{"immintrin.h", "x86intrin.h"}, {"kernels/cpu/", "bench/machine_limits"}},
      {{"cuda", "cublas", "mma.h", "cooperative_groups"},
       {"kernels/cuda/", "tests/kernels/cuda/", "bench/cuda/", "engine/comm/nccl",
        "tests/engine/comm/nccl"}},
      {{"nccl"},
       {"engine/comm/nccl", "kernels/cuda/emulator/", "tests/engine/comm/nccl",
        "tests/kernels/cuda/emulator/"}},
      {{"gloo/"}, {"engine/comm/gloo"}},
  };
  return table;
}

// Code that is compiled for a wide machine: avx2.cc, lanes_avx2.h, vector_rows.inc.
bool IsInstructionSetFile(std::string_view path) {
  constexpr std::string_view kFolder = "kernels/cpu/";
  if (!path.starts_with(kFolder)) return false;
  path.remove_prefix(kFolder.size());
  return path.starts_with("avx") || path.starts_with("lanes_") || path.ends_with(".inc");
}

const std::vector<std::string_view>& EmptyWords() {
  static const std::vector<std::string_view> words = {"Manager", "Helper", "Helpers", "Utils",
                                                      "Util",    "Impl",   "Base"};
  return words;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// The identifier that begins at or after `at`.
std::string_view WordAfter(std::string_view text, size_t at) {
  while (at < text.size() && !IsWordChar(text[at])) ++at;
  size_t end = at;
  while (end < text.size() && IsWordChar(text[end])) ++end;
  return text.substr(at, end - at);
}

}  // namespace

std::vector<Finding> FolderEdges(const SourceFile& file) {
  std::vector<Finding> findings;
  const auto room = std::find_if(Rooms().begin(), Rooms().end(), [&](const Room& candidate) {
    return file.path.starts_with(candidate.folder);
  });
  if (room == Rooms().end()) return findings;
  for (const Include& include : Includes(file)) {
    if (include.angled) continue;
    if (include.target.find('/') == std::string::npos && !include.target.ends_with(".h")) continue;
    if (StartsWithAny(include.target, OurFolders()) &&
        !StartsWithAny(include.target, room->may_include)) {
      findings.push_back({file.path, include.line,
                          "includes " + include.target + "; " + std::string(room->folder) +
                              " may include " + Joined(room->may_include)});
    }
  }
  return findings;
}

std::vector<Finding> LibraryRooms(const SourceFile& file) {
  std::vector<Finding> findings;
  for (const Include& include : Includes(file)) {
    for (const LibraryRoom& room : LibraryRoomTable()) {
      if (StartsWithAny(include.target, room.headers) && !StartsWithAny(file.path, room.folders)) {
        findings.push_back(
            {file.path, include.line,
             "includes " + include.target + ", which belongs to " + Joined(room.folders)});
      }
    }
  }
  return findings;
}

std::vector<Finding> InstructionSetFiles(const SourceFile& file) {
  std::vector<Finding> findings;
  if (!IsInstructionSetFile(file.path)) return findings;
  for (const Include& include : Includes(file)) {
    const bool allowed = include.angled ? include.target == "immintrin.h"
                                        : include.target == "kernels/cpu/inner_loops.h" ||
                                              IsInstructionSetFile(include.target);
    if (!allowed) {
      findings.push_back({file.path, include.line,
                          "includes " + include.target +
                              "; an inline function of it, compiled for a wide machine, could be "
                              "linked into code that runs on any"});
    }
  }
  return findings;
}

std::vector<Finding> Conditionals(const SourceFile& file) {
  std::vector<Finding> findings;
  if (file.path.starts_with("kernels/")) return findings;
  int number = 0;
  for (const std::string_view raw : Lines(file.text)) {
    ++number;
    const std::string_view line = Trim(raw);
    if (!line.starts_with('#')) continue;
    const std::string_view directive = WordAfter(line, 1);
    if (directive == "if" || directive == "ifdef" || directive == "ifndef") {
      findings.push_back({file.path, number,
                          "#" + std::string(directive) +
                              " outside kernels/: an optional part is a file that CMake picks"});
    }
  }
  return findings;
}

std::vector<Finding> FileLength(const SourceFile& file) {
  const size_t lines = Lines(file.text).size();
  if (lines <= kMaxFileLines) return {};
  return {{file.path, 0,
           std::to_string(lines) + " lines, more than " + std::to_string(kMaxFileLines) +
               ": it has two subjects"}};
}

std::vector<Finding> FunctionLength(const SourceFile& file,
                                    const std::vector<LongFunction>& exceptions) {
  std::vector<Finding> findings;
  for (const Function& function : Functions(file)) {
    const bool excepted =
        std::any_of(exceptions.begin(), exceptions.end(), [&](const LongFunction& exception) {
          return exception.path == file.path && exception.name == function.name;
        });
    if (function.lines > kMaxFunctionLines && !excepted) {
      findings.push_back({file.path, function.line,
                          function.name + " has " + std::to_string(function.lines) +
                              " lines, more than " + std::to_string(kMaxFunctionLines)});
    }
  }
  return findings;
}

std::vector<Finding> Names(const SourceFile& file) {
  std::vector<Finding> findings;
  for (const std::string_view word : EmptyWords()) {
    const std::string stem(StemOf(file.path));
    if (stem == Lower(word) || stem.ends_with("_" + Lower(word))) {
      findings.push_back({file.path, 0, "a file named " + stem + " does not say what is in it"});
    }
  }
  const std::string text = Blank(file.text);
  int number = 0;
  for (const std::string_view line : Lines(text)) {
    ++number;
    for (const std::string_view kind : {"class", "struct"}) {
      const size_t at = FindWord(line, kind);
      if (at == std::string_view::npos) continue;
      const std::string_view name = WordAfter(line, at + kind.size());
      for (const std::string_view word : EmptyWords()) {
        if (name.ends_with(word)) {
          findings.push_back({file.path, number,
                              "a type named " + std::string(name) + " does not say what it is"});
        }
      }
    }
  }
  return findings;
}

std::vector<Finding> Headers(const SourceFile& file) {
  std::vector<Finding> findings;
  if (!file.path.ends_with(".h")) return findings;
  if (!file.text.starts_with("//")) {
    findings.push_back({file.path, 1, "a header opens with a comment that states its contract"});
  }
  if (file.text.find("\n#pragma once\n") == std::string::npos) {
    findings.push_back({file.path, 1, "no #pragma once"});
  }
  return findings;
}

std::vector<Finding> LooseEnds(const SourceFile& file) {
  // In two halves, so that this file passes its own rule.
  static const std::vector<std::string> marks = {
      std::string("TO") + "DO", std::string("FIX") + "ME", std::string("XX") + "X"};
  std::vector<Finding> findings;
  int number = 0;
  for (const std::string_view line : Lines(file.text)) {
    ++number;
    for (const std::string& mark : marks) {
      if (HasWord(line, mark)) {
        findings.push_back({file.path, number, mark + ": finish it, or write an issue"});
      }
    }
  }
  return findings;
}

std::vector<Finding> Orphans(const std::vector<SourceFile>& sources,
                             const std::vector<SourceFile>& cmake_lists) {
  std::vector<Finding> findings;
  for (const SourceFile& lists : cmake_lists) {
    if (HasWord(lists.text, "GLOB") || HasWord(lists.text, "GLOB_RECURSE")) {
      findings.push_back({lists.path, 0, "globs for sources; name them"});
    }
  }
  const auto names_it = [](std::string_view text, std::string_view name) {
    for (size_t at = FindWord(text, name); at != std::string_view::npos;
         at = FindWord(text, name, at + 1)) {
      // Not the tail of a longer path.
      if (at == 0 || text[at - 1] != '/' || (at > 1 && text[at - 2] == '}')) return true;
    }
    return false;
  };
  for (const SourceFile& source : sources) {
    if (!source.path.ends_with(".cc")) continue;
    const std::filesystem::path path(source.path);
    const bool listed =
        std::any_of(cmake_lists.begin(), cmake_lists.end(), [&](const SourceFile& lists) {
          const std::filesystem::path folder(FolderOf(lists.path));
          return names_it(lists.text, path.lexically_relative(folder).generic_string());
        });
    if (!listed) {
      findings.push_back({source.path, 0, "no CMakeLists.txt names it: it is not built"});
    }
  }
  return findings;
}

std::vector<Finding> MirroredTests(const std::vector<SourceFile>& sources) {
  // Tests of more than one source, by folder or by name. tests/server/grpc_*: the service, by
  // topic.
  static const std::vector<std::string_view> of_the_whole = {"tests/integration/",
                                                             "tests/tidy/",
                                                             "tests/fuzz/",
                                                             "tests/engine/golden_test.cc",
                                                             "tests/engine/gpu_failure_test.cc",
                                                             "tests/engine/gpu_model_test.cc",
                                                             "tests/engine/invariance_test.cc",
                                                             "tests/server/grpc_"};
  std::set<std::string, std::less<>> tested;  // "engine/moe/router"
  for (const SourceFile& source : sources) {
    const std::string_view folder = FolderOf(source.path);
    const std::string stem = "/" + std::string(StemOf(source.path));
    tested.insert(std::string(folder) + stem);
    // A device's verb is tested on every device, one folder above the devices.
    if (folder.starts_with("kernels/")) tested.insert(std::string(FolderOf(folder)) + stem);
  }
  std::vector<Finding> findings;
  for (const SourceFile& source : sources) {
    if (!source.path.starts_with("tests/") || !source.path.ends_with("_test.cc") ||
        StartsWithAny(source.path, of_the_whole)) {
      continue;
    }
    std::string subject = source.path.substr(6, source.path.size() - 6 - 3);  // without ".cc"
    bool found = false;
    while (!found && StemOf(subject).find('_') != std::string_view::npos) {
      subject.resize(subject.rfind('_'));
      found = tested.contains(subject) || tested.contains("tests/" + subject);
    }
    if (!found) {
      findings.push_back({source.path, 0, "there is no source of this name for it to test"});
    }
  }
  return findings;
}

}  // namespace ballast::tidy
