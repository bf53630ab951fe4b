#include "engine/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/engine/checkpoint/checkpoint_files.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(std::string_view file) {
  const auto entries = ParseSafetensors("m.safetensors", file);
  if (entries.ok()) return "accepted";
  EXPECT_TRUE(absl::IsInvalidArgument(entries.status()));
  return std::string(entries.status().message());
}

std::string ErrorOf(std::string_view header, std::string_view data) {
  return ErrorOf(FileOf(header, data));
}

TEST(Safetensors, EntriesComeInFileOrderWithTheirPlaces) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[3,7]},)"
      R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
      R"("scalar":{"dtype":"BF16","shape":[],"data_offsets":[7,9]},)"
      R"("empty":{"dtype":"F16","shape":[0,5],"data_offsets":[9,9]}})";
  const auto entries = ParseSafetensors("m", FileOf(header, "123456789"));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 4u);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[0].dtype, "U8");
  const SafetensorsEntry& b = (*entries)[1];
  EXPECT_EQ(b.name, "b");
  EXPECT_EQ(b.shape, std::vector<int64_t>{1});
  EXPECT_EQ(b.begin, 8 + header.size() + 3);  // unaligned
  EXPECT_EQ(b.end, b.begin + 4);
}

TEST(Safetensors, ReadsAGoldenFile) {
  const FileTensors golden = GoldenTensors("mixtral");
  const std::string file = ReadAll(GoldenPath("mixtral") + "/model.safetensors");
  const auto entries = ParseSafetensors("m", file);
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), golden.size());
  for (const SafetensorsEntry& entry : *entries) {
    const FileTensor& tensor = golden.at(entry.name);
    EXPECT_EQ(entry.shape, tensor.shape);
    EXPECT_EQ(file.substr(entry.begin, entry.end - entry.begin), tensor.bytes);
  }
}

TEST(Safetensors, RefusesATruncatedLength) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("m.safetensors: has 0 bytes"));
  EXPECT_THAT(ErrorOf("1234567"), HasSubstr("has 7 bytes"));
}

TEST(Safetensors, RefusesAHeaderLongerThanTheFile) {
  EXPECT_THAT(ErrorOf(std::string("\x05\0\0\0\0\0\0\0{}", 10)),
              HasSubstr("header length is 5, but only 2 bytes follow"));
}

TEST(Safetensors, RefusesAnAbsurdHeaderLength) {
  EXPECT_THAT(ErrorOf(std::string(8, '\xff') + "{}"),
              HasSubstr("header length is 18446744073709551615, expected at most"));
  EXPECT_THAT(ErrorOf(std::string("\xf8\xff\xff\xff\xff\xff\xff\x7f{}", 10)),
              HasSubstr("header length is"));
}

TEST(Safetensors, EveryTruncationOfAFileIsRefused) {
  const std::string file = FileOf({{"w", Bf16Tensor({2, 2}, {1, 2, 3, 4})}});
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_NE(ErrorOf(file.substr(0, size)), "accepted") << size;
  }
  EXPECT_EQ(ErrorOf(file), "accepted");
}

TEST(Safetensors, RefusesWhatIsNotAJsonObject) {
  EXPECT_THAT(ErrorOf("", ""), HasSubstr("header is not JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":", ""), HasSubstr("header is not JSON"));
  EXPECT_THAT(ErrorOf("[1]", ""), HasSubstr("header is not a JSON object"));
  EXPECT_THAT(ErrorOf("{\"\xff\":1}", ""), HasSubstr("header is not JSON"));
  EXPECT_THAT(ErrorOf(std::string(100'000, '['), ""), HasSubstr("header is not JSON"));
}

TEST(Safetensors, RefusesMalformedEntries) {
  EXPECT_THAT(ErrorOf(R"({"w":3})", ""), HasSubstr("w: is not an object"));
  EXPECT_THAT(ErrorOf(R"({"w":{"shape":[1],"data_offsets":[0,1]}})", "1"), HasSubstr("no dtype"));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"U8","data_offsets":[0,1]}})", "1"), HasSubstr("no shape"));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"U8","shape":[1]}})", "1"), HasSubstr("no data_offsets"));
  for (const char* shape : {"[-1]", "[1.5]", "[\"1\"]", "3", "[1e30]", "[1,1,1,1,1,1,1,1,1]"}) {
    const std::string header =
        std::string(R"({"w":{"dtype":"U8","shape":)") + shape + R"(,"data_offsets":[0,1]}})";
    EXPECT_THAT(ErrorOf(header, "1"), HasSubstr("w: shape")) << shape;
  }
  for (const char* offsets : {"[0]", "[0,1,2]", "[1,0]", "[-1,0]", "7", "[0,1.0]"}) {
    const std::string header =
        std::string(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":)") + offsets + "}}";
    EXPECT_THAT(ErrorOf(header, "1"), HasSubstr("w: data_offsets")) << offsets;
  }
}

TEST(Safetensors, RefusesOffsetsOutsideTheFile) {
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "123"),
              HasSubstr("w: data_offsets end at 4, but the file holds 3 bytes"));
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,)"
                      R"(18446744073709551615]}})",
                      "123"),
              HasSubstr("w: data_offsets end at 18446744073709551615"));
}

TEST(Safetensors, RefusesOverlappingTensors) {
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                      "1234"),
              HasSubstr("the bytes of b overlap those of a"));
  EXPECT_THAT(ErrorOf(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                      R"("e":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
                      R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                      "1234"),
              HasSubstr("the bytes of b overlap those of a"));
}

TEST(Safetensors, RefusesASizeThatIsNotTheShapes) {
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", "1234567"),
              HasSubstr("w: shape [2] in F32 takes 8 bytes, but data_offsets hold 7"));
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  // 2^32 * 2^32 * 8 bits is 0 in 64 bits.
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"U8","shape":[4294967296,4294967296],)"
                      R"("data_offsets":[0,0]}})",
                      ""),
              HasSubstr("w: shape [4294967296, 4294967296] overflows"));
}

TEST(Safetensors, RefusesANameThatStandsTwice) {
  EXPECT_THAT(ErrorOf(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                      R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                      "12"),
              HasSubstr("w stands twice"));
}

TEST(Safetensors, TypesThatWeightsCannotHaveAreListed) {
  const auto entries =
      ParseSafetensors("m", FileOf(R"({"w":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},)"
                                   R"("x":{"dtype":"NEW_9","shape":[3],"data_offsets":[3,4]}})",
                                   "1234"));
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_FALSE(UsableType((*entries)[0].dtype).has_value());
  EXPECT_FALSE(UsableType((*entries)[1].dtype).has_value());
  EXPECT_EQ(UsableType("BF16"), DType::kBF16);
}

}  // namespace
}  // namespace ballast
