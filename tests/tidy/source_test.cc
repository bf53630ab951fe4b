#include "tests/tidy/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::tidy {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Described(const std::string& text) {
  std::vector<std::string> described;
  for (const Function& function : Functions({"a.cc", text})) {
    described.push_back(function.name + "@" + std::to_string(function.line) + "+" +
                        std::to_string(function.lines));
  }
  return described;
}

TEST(Blank, TakesCommentsAndLiterals) {
  EXPECT_EQ(Blank("a /* { */ b // {\nc"), "a         b     \nc");
  EXPECT_EQ(Blank(R"(f("{\"}", '{', '\'');)"), R"(f("    ", ' ', '  ');)");
  EXPECT_EQ(Blank("x = R\"q({)\")q\";"), "x =           ;");
  EXPECT_EQ(Blank("1'000'000 {"), "1'000'000 {");
}

TEST(Includes, AreReadWithTheirLines) {
  const std::vector<Include> found =
      Includes({"a.cc", "#include <vector>\n// #include <no>\n#  include \"engine/a.h\"\n"});
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].target, "vector");
  EXPECT_TRUE(found[0].angled);
  EXPECT_EQ(found[1].target, "engine/a.h");
  EXPECT_EQ(found[1].line, 3);
}

TEST(Functions, AreFoundInNamespacesAndClasses) {
  EXPECT_THAT(Described("namespace a {\nint F(int x) {\n  return x;\n}\n"
                        "class B {\n public:\n  int G() const { return 1; }\n};\n}\n"),
              ElementsAre("F@2+3", "G@7+1"));
}

TEST(Functions, KeepLambdasAndLoopsInside) {
  EXPECT_THAT(Described("void F() {\n  for (;;) {\n    auto g = [](int x) {\n    };\n  }\n}\n"
                        "int G();\nint H() { return 0; }\n"),
              ElementsAre("F@1+6", "H@8+1"));
}

TEST(Functions, AreNotInitializersOrTypes) {
  EXPECT_THAT(Described("const int kTable[] = {1, 2};\nstruct A {\n  int x{3};\n};\n"
                        "enum class B : char { kC };\nstruct alignas(64) D {\n  int y;\n};\n"),
              IsEmpty());
}

TEST(Functions, AreFoundAfterMemberInitializers) {
  EXPECT_THAT(Described("A::A(int x) : x_(x), y_{x} {\n  F();\n}\nint B() {\n}\n"),
              ElementsAre("A::A@1+3", "B@4+2"));
}

TEST(Functions, ReadPastStringsWithBraces) {
  EXPECT_THAT(Described("int F() {\n  return G(\"}\");\n}\nTEST(A, B) {\n}\n"),
              ElementsAre("F@1+3", "TEST(A, B)@4+2"));
}

}  // namespace
}  // namespace ballast::tidy
