#include "server/auth.h"

#include <gtest/gtest.h>

namespace ballast {
namespace {

TEST(ApiKeys, WithoutKeysEverybodyMayCall) { EXPECT_TRUE(ApiKeys().Accept("")); }

TEST(ApiKeys, OnlyWholeKeysOpen) {
  const auto keys = ApiKeys::Parse("# ours\nsecret-1\r\n\n  secret-22  \n", "keys");
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->Accept("Bearer secret-1"));
  EXPECT_TRUE(keys->Accept("bearer secret-22"));
  EXPECT_FALSE(keys->Accept("Bearer secret-2"));
  EXPECT_FALSE(keys->Accept("Bearer secret-1secret-1"));
  EXPECT_FALSE(keys->Accept("Bearer secret-"));
  EXPECT_FALSE(keys->Accept("Bearer "));
  EXPECT_FALSE(keys->Accept("Bearer # ours"));
  EXPECT_FALSE(keys->Accept("Basic secret-1"));
  EXPECT_FALSE(keys->Accept("secret-1"));
  EXPECT_FALSE(keys->Accept(""));
}

TEST(ApiKeys, AFileWithoutKeysIsAnErrorThatNamesIt) {
  const auto keys = ApiKeys::Parse("# none\n\n", "the-file");
  ASSERT_TRUE(absl::IsInvalidArgument(keys.status()));
  EXPECT_NE(keys.status().ToString().find("the-file"), std::string::npos);
}

TEST(ApiKeys, AKeyThatNoHeaderCarriesIsAnErrorThatNamesTheLine) {
  const auto keys = ApiKeys::Parse(
      "good\nb\xC3\xA4"
      "d\n",
      "the-file");
  ASSERT_TRUE(absl::IsInvalidArgument(keys.status()));
  EXPECT_NE(keys.status().ToString().find("the-file:2"), std::string::npos);
}

TEST(ApiKeys, AMissingFileIsNotFound) {
  EXPECT_TRUE(absl::IsNotFound(ApiKeys::Read("/nonexistent/keys").status()));
}

TEST(Credentials, CertificateAndKeyComeTogether) {
  EXPECT_TRUE(ReadCredentials("", "", "").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(ReadCredentials("cert.pem", "", "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadCredentials("", "key.pem", "").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadCredentials("", "", "ca.pem").status()));
}

TEST(Credentials, AFileThatIsNoPemIsAnErrorThatNamesIt) {
  const std::string text = BALLAST_SOURCE_DIR "/tests/data/tls/README.md";
  const auto credentials = ReadCredentials(text, text, "");
  ASSERT_TRUE(absl::IsInvalidArgument(credentials.status()));
  EXPECT_NE(credentials.status().ToString().find(text), std::string::npos);
}

}  // namespace
}  // namespace ballast
