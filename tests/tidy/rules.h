// The house rules that a machine can check. Each takes sources and says what is wrong with them;
// none reads a file. DEVELOPERS.md explains the rules to people.
#pragma once

#include <string>
#include <vector>

#include "tests/tidy/source.h"

namespace ballast::tidy {

struct Finding {
  std::string path;
  int line = 0;  // 0: the whole file
  std::string what;
};

inline constexpr int kMaxFileLines = 600;
inline constexpr int kMaxFunctionLines = 80;

// A function that may be longer than kMaxFunctionLines, and why.
struct LongFunction {
  std::string path;
  std::string name;
  std::string reason;
};

// --- rules of one C++ file (.h, .cc, .inc)
// -------------------------------------------------------- Folders include only downwards: server
// -> engine -> moe -> comm, kernels.
std::vector<Finding> FolderEdges(const SourceFile& file);
// A library's headers stay in the rooms that own it.
std::vector<Finding> LibraryRooms(const SourceFile& file);
// What is compiled for one instruction set includes <immintrin.h>, the table it fills
// (inner_loops.h, which defines no function) and its own kind.
std::vector<Finding> InstructionSetFiles(const SourceFile& file);
// No conditional compilation outside the folders that own a platform.
std::vector<Finding> Conditionals(const SourceFile& file);
std::vector<Finding> FileLength(const SourceFile& file);
std::vector<Finding> FunctionLength(const SourceFile& file,
                                    const std::vector<LongFunction>& exceptions);
// Type and file names say what a thing is: no Manager, Helper, Utils, Impl, Base.
std::vector<Finding> Names(const SourceFile& file);
// Headers open with a comment that states their contract, then #pragma once.
std::vector<Finding> Headers(const SourceFile& file);
// Work that is not done belongs in an issue.
std::vector<Finding> LooseEnds(const SourceFile& file);

// --- rules of the whole tree
// ---------------------------------------------------------------------- Every .cc is named in the
// CMakeLists.txt of its folder or of one above it; no globbing.
std::vector<Finding> Orphans(const std::vector<SourceFile>& sources,
                             const std::vector<SourceFile>& cmake_lists);
// tests/a/x_test.cc tests a/x.{h,cc} (or x_more_test.cc does), except tests of the whole.
std::vector<Finding> MirroredTests(const std::vector<SourceFile>& sources);

}  // namespace ballast::tidy
