#include "server/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast {
namespace {

using ::testing::HasSubstr;

TEST(Units, SizesTakeDecimalAndBinaryUnits) {
  EXPECT_EQ(ParseBytes("4096").value(), 4096);
  EXPECT_EQ(ParseBytes("2GiB").value(), int64_t{2} << 30);
  EXPECT_EQ(ParseBytes("512 MiB").value(), int64_t{512} << 20);
  EXPECT_EQ(ParseBytes("1.5kB").value(), 1500);
  EXPECT_EQ(ParseBytes("1e9").value(), 1'000'000'000);
  EXPECT_EQ(ParseBytes("3gb").value(), 3'000'000'000);
}

TEST(Units, BadSizesSayWhatWasFoundAndExpected) {
  for (const char* text : {"", "GiB", "-1", "2XB", "1e300", "nan", "inf", "1 2"}) {
    const absl::StatusOr<int64_t> bytes = ParseBytes(text);
    ASSERT_FALSE(bytes.ok()) << text;
    EXPECT_THAT(std::string(bytes.status().message()), HasSubstr("expected a size such as"));
  }
}

TEST(Units, TimesTakeUnitsAndReadBackWhatIsPrinted) {
  EXPECT_DOUBLE_EQ(ParseSeconds("500ms").value(), 0.5);
  EXPECT_DOUBLE_EQ(ParseSeconds("30").value(), 30);
  EXPECT_DOUBLE_EQ(ParseSeconds("2m").value(), 120);
  EXPECT_FALSE(ParseSeconds("-3s").ok());
  EXPECT_FALSE(ParseSeconds("soon").ok());
  for (const double seconds : {0.0, 0.25, 1.0, 90.0, 86400.0}) {
    EXPECT_DOUBLE_EQ(ParseSeconds(FormatSeconds(seconds)).value(), seconds);
  }
}

TEST(Units, CountsAreWhole) {
  EXPECT_EQ(ParseCount("1e3").value(), 1000);
  EXPECT_EQ(ParseCount("-7").value(), -7);
  EXPECT_FALSE(ParseCount("1.5").ok());
  EXPECT_FALSE(ParseCount("1e30").ok());
  EXPECT_FALSE(ParseCount("").ok());
}

TEST(Units, AddressesSplitAtTheLastColon) {
  EXPECT_EQ(ParseHostPort("localhost:7000")->host, "localhost");
  EXPECT_EQ(ParseHostPort("[::1]:0")->host, "::1");
  EXPECT_EQ(ParseHostPort("[::1]:65535")->port, 65535);
  for (const char* text : {"", "7000", ":7000", "a:", "a:b", "a:65536", "::1:70", "[]:1", "a:-1"}) {
    EXPECT_FALSE(ParseHostPort(text).ok()) << text;
  }
  EXPECT_EQ(FormatHostPort("::1", 7), "[::1]:7");
  EXPECT_EQ(FormatHostPort("127.0.0.1", 7), "127.0.0.1:7");
}

TEST(Units, TheFirstByteThatIsNotUtf8IsFound) {
  EXPECT_EQ(FirstInvalidUtf8(""), 0u);
  EXPECT_EQ(FirstInvalidUtf8("h\xc3\xa9llo"), 6u);
  EXPECT_EQ(FirstInvalidUtf8("ab\xff"), 2u);
  EXPECT_EQ(FirstInvalidUtf8("ab\xc3"), 2u);         // cut short
  EXPECT_EQ(FirstInvalidUtf8("\xc0\xaf"), 0u);       // overlong
  EXPECT_EQ(FirstInvalidUtf8("a\xed\xa0\x80"), 1u);  // surrogate
  EXPECT_EQ(FirstInvalidUtf8(std::string("a\0b", 3)), 3u);
}

TEST(Units, BytesReadAsPeopleWriteThem) {
  EXPECT_EQ(FormatBytes(100), "100 B");
  EXPECT_EQ(FormatBytes(int64_t{1} << 30), "1 GiB");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
}

}  // namespace
}  // namespace ballast
