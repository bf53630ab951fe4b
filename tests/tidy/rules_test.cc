// Each rule is shown something wrong and something right: a rule that can't fire protects nothing.
#include "tests/tidy/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::tidy {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

std::string Repeat(std::string_view line, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += line;
  return text;
}

TEST(FolderEdges, KernelsKnowNothingOfTheEngine) {
  EXPECT_THAT(FolderEdges({"kernels/cpu/pool.cc", "#include \"engine/step.h\"\n"}),
              ElementsAre(Field(&Finding::what, HasSubstr("includes engine/step.h"))));
  EXPECT_THAT(FolderEdges({"kernels/cpu/pool.cc", "#include \"kernels/device.h\"\n"}), IsEmpty());
}

TEST(FolderEdges, TheEngineKnowsNothingOfTheServer) {
  EXPECT_THAT(FolderEdges({"engine/engine.cc", "\n#include \"server/log.h\"\n"}),
              ElementsAre(Field(&Finding::line, 2)));
  EXPECT_THAT(FolderEdges({"engine/engine.cc", "#include \"engine/moe/layer.h\"\n"}), IsEmpty());
}

TEST(FolderEdges, ExpertsKnowNothingOfSequences) {
  EXPECT_THAT(FolderEdges({"engine/moe/layer.cc", "#include \"engine/sequence.h\"\n"}), SizeIs(1));
  EXPECT_THAT(FolderEdges({"engine/moe/layer.cc", "#include \"engine/comm/communicator.h\"\n"}),
              IsEmpty());
}

TEST(FolderEdges, TheServerSeesTheEngineFromOutside) {
  EXPECT_THAT(FolderEdges({"server/service.cc", "#include \"engine/scheduler.h\"\n"}), SizeIs(1));
  EXPECT_THAT(FolderEdges({"server/service.cc", "#include \"engine/engine.h\"\n"}), IsEmpty());
}

TEST(FolderEdges, TheTokenizerStandsAlone) {
  EXPECT_THAT(FolderEdges({"engine/tokenizer/bpe.cc", "#include \"kernels/device.h\"\n"}),
              SizeIs(1));
}

TEST(LibraryRooms, TheWireStaysInTheServer) {
  for (const std::string header :
       {"grpcpp/grpcpp.h", "google/protobuf/message.h", "ballast/v1/text_generation.pb.h",
        "boost/beast.hpp", "prometheus/counter.h"}) {
    const std::string text = "#include <" + header + ">\n";
    EXPECT_THAT(LibraryRooms({"engine/engine.cc", text}), SizeIs(1)) << header;
    EXPECT_THAT(LibraryRooms({"server/service.cc", text}), IsEmpty()) << header;
    EXPECT_THAT(LibraryRooms({"tests/server/service_test.cc", text}), IsEmpty()) << header;
  }
}

TEST(LibraryRooms, PlatformHeadersStayInTheirFiles) {
  EXPECT_THAT(LibraryRooms({"kernels/cpu/pool.cc", "#include <cuda_runtime.h>\n"}), SizeIs(1));
  EXPECT_THAT(LibraryRooms({"engine/comm/in_process.cc", "#include <gloo/context.h>\n"}),
              SizeIs(1));
  EXPECT_THAT(LibraryRooms({"engine/comm/gloo.cc", "#include <gloo/context.h>\n"}), IsEmpty());
  EXPECT_THAT(LibraryRooms({"engine/sampler.cc", "#include <immintrin.h>\n"}), SizeIs(1));
}

TEST(InstructionSetFiles, IncludeNothingInline) {
  for (const std::string path :
       {"kernels/cpu/avx2.cc", "kernels/cpu/lanes_avx2.h", "kernels/cpu/vector_rows.inc"}) {
    EXPECT_THAT(InstructionSetFiles({path, "#include <vector>\n"}), SizeIs(1)) << path;
    EXPECT_THAT(InstructionSetFiles({path, "#include \"kernels/cpu/number.h\"\n"}), SizeIs(1));
    EXPECT_THAT(InstructionSetFiles({path,
                                     "#include <immintrin.h>\n"
                                     "#include \"kernels/cpu/inner_loops.h\"\n"
                                     "#include \"kernels/cpu/lanes_avx2.h\"\n"
                                     "#include \"kernels/cpu/vector_rows.inc\"\n"}),
                IsEmpty());
  }
  EXPECT_THAT(InstructionSetFiles({"kernels/cpu/threads.cc", "#include <vector>\n"}), IsEmpty());
}

TEST(Conditionals, StandOnlyInKernels) {
  for (const std::string directive : {"#if 0", "#ifdef X", "#ifndef X", "  #  if defined(X)"}) {
    EXPECT_THAT(Conditionals({"engine/engine.cc", directive + "\n"}), SizeIs(1)) << directive;
    EXPECT_THAT(Conditionals({"kernels/cuda/launch.cc", directive + "\n"}), IsEmpty());
  }
  EXPECT_THAT(Conditionals({"engine/engine.h", "#pragma once\n#include <string>\n"}), IsEmpty());
}

TEST(FileLength, EndsAtSixHundredLines) {
  EXPECT_THAT(FileLength({"engine/x.cc", Repeat("int a;\n", kMaxFileLines)}), IsEmpty());
  EXPECT_THAT(FileLength({"engine/x.cc", Repeat("int a;\n", kMaxFileLines + 1)}), SizeIs(1));
}

TEST(FunctionLength, CountsFromBraceToBrace) {
  const auto body = [](int lines) {
    return "void F() {\n" + Repeat("  G();\n", lines - 2) + "}\n";
  };
  EXPECT_THAT(FunctionLength({"a.cc", body(kMaxFunctionLines)}, {}), IsEmpty());
  const SourceFile long_one{"a.cc", body(kMaxFunctionLines + 1)};
  EXPECT_THAT(FunctionLength(long_one, {}), SizeIs(1));
  EXPECT_THAT(FunctionLength(long_one, {{"a.cc", "F", "a table"}}), IsEmpty());
  EXPECT_THAT(FunctionLength(long_one, {{"a.cc", "G", "another"}}), SizeIs(1));
}

TEST(Names, SayWhatAThingIs) {
  EXPECT_THAT(Names({"engine/x.h", "class CacheManager {\n"}), SizeIs(1));
  EXPECT_THAT(Names({"engine/x.h", "\nstruct Engine::Impl {\n"}), IsEmpty());
  EXPECT_THAT(Names({"engine/x.h", "struct EngineImpl;\n"}), SizeIs(1));
  EXPECT_THAT(Names({"engine/string_utils.h", ""}), SizeIs(1));
  EXPECT_THAT(Names({"engine/utils.cc", ""}), SizeIs(1));
  EXPECT_THAT(Names({"engine/database.h", "// the class FooHelper is gone\nclass Database {\n"}),
              IsEmpty());
}

TEST(Headers, OpenWithTheirContract) {
  EXPECT_THAT(Headers({"a.h", "// What it does.\n#pragma once\n"}), IsEmpty());
  EXPECT_THAT(Headers({"a.h", "#pragma once\n"}), SizeIs(2));
  EXPECT_THAT(Headers({"a.h", "// What it does.\nint a;\n"}), SizeIs(1));
  EXPECT_THAT(Headers({"a.cc", "int a;\n"}), IsEmpty());
}

TEST(LooseEnds, AreFound) {
  EXPECT_THAT(LooseEnds({"a.cc", std::string("int a;  // TO") + "DO: b\n"}), SizeIs(1));
  EXPECT_THAT(LooseEnds({"a.cc", "int a;  // to do or not to do\n"}), IsEmpty());
}

TEST(Orphans, AreSourcesThatNoListNames) {
  const std::vector<SourceFile> lists = {
      {"engine/CMakeLists.txt", "add_library(a x.cc moe/layer.cc sub/deep.cc)"}};
  EXPECT_THAT(Orphans({{"engine/x.cc", ""}, {"engine/moe/layer.cc", ""}}, lists), IsEmpty());
  EXPECT_THAT(Orphans({{"engine/y.cc", ""}}, lists),
              ElementsAre(Field(&Finding::path, "engine/y.cc")));
  EXPECT_THAT(Orphans({{"engine/deep.cc", ""}}, lists), SizeIs(1)) << "sub/deep.cc is another file";
  EXPECT_THAT(Orphans({{"server/x.cc", ""}}, lists), SizeIs(1));
  EXPECT_THAT(Orphans({{"kernels/x.cc", ""}}, {{"engine/CMakeLists.txt", "a(../kernels/x.cc)"}}),
              IsEmpty());
  EXPECT_THAT(Orphans({}, {{"engine/CMakeLists.txt", "file(GLOB all *.cc)"}}), SizeIs(1));
}

TEST(MirroredTests, StandWhereTheirSubjectStands) {
  const SourceFile router{"engine/moe/router.cc", ""};
  EXPECT_THAT(MirroredTests({router, {"tests/engine/moe/router_test.cc", ""}}), IsEmpty());
  EXPECT_THAT(MirroredTests({router, {"tests/engine/moe/router_ties_test.cc", ""}}), IsEmpty());
  EXPECT_THAT(MirroredTests({router, {"tests/engine/router_test.cc", ""}}), SizeIs(1));
  EXPECT_THAT(MirroredTests({router, {"tests/engine/moe/gate_test.cc", ""}}), SizeIs(1));
  EXPECT_THAT(MirroredTests({{"kernels/cpu/matmul.cc", ""}, {"tests/kernels/matmul_test.cc", ""}}),
              IsEmpty());
  EXPECT_THAT(MirroredTests({{"tests/integration/storm_test.cc", ""}}), IsEmpty());
}

}  // namespace
}  // namespace ballast::tidy
