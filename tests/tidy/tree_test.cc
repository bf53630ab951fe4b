// The house rules, applied to every source file of the repository.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "tests/tidy/rules.h"

namespace ballast::tidy {
namespace {

namespace fs = std::filesystem;

// Functions that read better in one piece than cut to length.
const std::vector<LongFunction>& LongFunctions() {
  static const std::vector<LongFunction> functions = {};
  return functions;
}

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

struct Tree {
  std::vector<SourceFile> sources;  // .h, .cc, .inc
  std::vector<SourceFile> cmake_lists;
};

const Tree& TheTree() {
  static const Tree tree = [] {
    Tree read;
    const fs::path root = BALLAST_SOURCE_DIR;
    for (const char* folder : {"kernels", "engine", "server", "tests", "bench", "tools"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        const fs::path& path = entry.path();
        SourceFile file{fs::relative(path, root).generic_string(), {}};
        const std::string extension = path.extension().string();
        const bool source = extension == ".h" || extension == ".cc" || extension == ".inc";
        if (!source && path.filename() != "CMakeLists.txt") continue;
        file.text = ReadAll(path);
        (source ? read.sources : read.cmake_lists).push_back(std::move(file));
      }
    }
    return read;
  }();
  return tree;
}

void ExpectNone(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    ADD_FAILURE() << finding.path << ":" << finding.line << ": " << finding.what;
  }
}

void ExpectNoneInAnyFile(const std::function<std::vector<Finding>(const SourceFile&)>& rule) {
  for (const SourceFile& file : TheTree().sources) ExpectNone(rule(file));
}

TEST(Tree, IsThere) {
  EXPECT_GT(TheTree().sources.size(), 20u) << "read from " << BALLAST_SOURCE_DIR;
  EXPECT_GT(TheTree().cmake_lists.size(), 5u);
}

TEST(Tree, IncludesOnlyDownwards) { ExpectNoneInAnyFile(FolderEdges); }
TEST(Tree, KeepsLibrariesInTheirRooms) { ExpectNoneInAnyFile(LibraryRooms); }
TEST(Tree, KeepsInstructionSetFilesClean) { ExpectNoneInAnyFile(InstructionSetFiles); }
TEST(Tree, CompilesUnconditionally) { ExpectNoneInAnyFile(Conditionals); }
TEST(Tree, HasShortFiles) { ExpectNoneInAnyFile(FileLength); }
TEST(Tree, HasTellingNames) { ExpectNoneInAnyFile(Names); }
TEST(Tree, StatesContractsInHeaders) { ExpectNoneInAnyFile(Headers); }
TEST(Tree, HasNoLooseEnds) { ExpectNoneInAnyFile(LooseEnds); }
TEST(Tree, BuildsEverySource) { ExpectNone(Orphans(TheTree().sources, TheTree().cmake_lists)); }
TEST(Tree, HasTestsThatMirrorIt) { ExpectNone(MirroredTests(TheTree().sources)); }

TEST(Tree, HasShortFunctions) {
  ExpectNoneInAnyFile([](const SourceFile& file) { return FunctionLength(file, LongFunctions()); });
}

TEST(Tree, ExceptsOnlyFunctionsThatAreLong) {
  for (const LongFunction& exception : LongFunctions()) {
    const bool needed = std::any_of(
        TheTree().sources.begin(), TheTree().sources.end(), [&](const SourceFile& file) {
          return file.path == exception.path &&
                 FunctionLength(file, {}).size() > FunctionLength(file, {exception}).size();
        });
    EXPECT_TRUE(needed) << exception.path << ": " << exception.name << " is no longer too long";
  }
}

}  // namespace
}  // namespace ballast::tidy
