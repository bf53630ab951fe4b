// `ballast serve` from outside: who is let in, and how it ends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/integration/served_model.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using Code = grpc::StatusCode;

const std::string kTls = BALLAST_SOURCE_DIR "/tests/data/tls/";

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::string WriteKeys(const std::string& name, const std::string& text) {
  std::string path = testing::TempDir() + "ballast-" + std::to_string(getpid()) + name;
  std::ofstream(path) << text;
  return path;
}

TEST(Serve, TlsAndApiKeysGuardIt) {
  const std::string keys = WriteKeys("-keys", "# the two of us\nopen-sesame\nother-key\n");
  const std::string wrong = WriteKeys("-wrong", "open-barley\n");
  ServedModel server({"--tls-cert", kTls + "server.pem", "--tls-key", kTls + "server.key",
                      "--api-key-file", keys});
  const std::vector<std::string> ask = {"--temperature", "0", "--max-tokens", "4", "The experts"};
  const auto generate = [&](std::vector<std::string> options) {
    options.insert(options.end(), ask.begin(), ask.end());
    return server.Generate(options);
  };
  const std::string ca = kTls + "ca.pem";
  const Finished good = generate({"--tls-ca", ca, "--api-key-file", keys});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_NE(good.out, "");
  for (const Finished& keyless :
       {generate({"--tls-ca", ca}), generate({"--tls-ca", ca, "--api-key-file", wrong})}) {
    EXPECT_EQ(keyless.code, 1);
    EXPECT_EQ(keyless.out, "");
    EXPECT_THAT(keyless.err, HasSubstr("UNAUTHENTICATED"));
  }
  // In plain text, and trusting somebody else.
  for (const Finished& stranger :
       {generate({"--api-key-file", keys}),
        generate({"--tls-ca", kTls + "client.pem", "--api-key-file", keys})}) {
    EXPECT_EQ(stranger.code, 1);
    EXPECT_THAT(stranger.err, HasSubstr("no connection to the server"));
  }
  EXPECT_EQ(server.Metric(R"(ballast_requests_rejected_total{reason="unauthenticated"})"), 2);
  const std::string log = server.Stop();
  EXPECT_THAT(log, Not(HasSubstr("sesame")));
  unlink(keys.c_str());
  unlink(wrong.c_str());
}

TEST(Serve, ClientsShowCertificatesWhenAsked) {
  ServedModel server({"--tls-cert", kTls + "server.pem", "--tls-key", kTls + "server.key",
                      "--tls-client-ca", kTls + "ca.pem"});
  const auto generate = [&](const grpc::SslCredentialsOptions& tls) {
    const auto stub =
        v1::TextGeneration::NewStub(grpc::CreateChannel(server.grpc(), grpc::SslCredentials(tls)));
    v1::GenerateResponse response;
    return stub->Generate(Context().get(), Ask("The experts", 4), &response);
  };
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = Read(kTls + "ca.pem");
  EXPECT_EQ(generate(tls).error_code(), Code::UNAVAILABLE);
  tls.pem_private_key = Read(kTls + "client.key");
  tls.pem_cert_chain = Read(kTls + "client.pem");
  const grpc::Status shown = generate(tls);
  EXPECT_TRUE(shown.ok()) << shown.error_message();
  server.Stop();
}

TEST(Serve, TermFinishesWhatRunsAndTakesNothingNew) {
  ServedModel server({"--drain-timeout", "1h", "--max-running", "128"});
  Running endless(server.stub(), AskForever("endless"));
  Running finite(server.stub(), Ask("The experts", 50));
  EXPECT_EQ(server.Get("/health").status, 200);
  server.process().Signal(SIGTERM);
  ASSERT_TRUE(server.process().WaitForErr("info draining"));

  v1::GenerateResponse response;
  const grpc::Status refused = server.stub().Generate(Context().get(), Ask("x", 4), &response);
  EXPECT_EQ(refused.error_code(), Code::UNAVAILABLE);
  EXPECT_THAT(refused.error_message(), HasSubstr("draining"));
  EXPECT_EQ(server.Get("/health").status, 503);

  EXPECT_TRUE(finite.ReadToTheEnd().ok());
  EXPECT_EQ(finite.chunk().finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finite.chunk().usage().completion_tokens(), 50u);
  EXPECT_TRUE(endless.Read());
  v1::AbortRequest abort;
  abort.set_request_id("endless");
  v1::AbortResponse aborted;
  EXPECT_TRUE(server.stub().Abort(Context().get(), abort, &aborted).ok());
  EXPECT_TRUE(aborted.aborted());
  EXPECT_TRUE(endless.ReadToTheEnd().ok());
  EXPECT_EQ(endless.chunk().finish_reason(), v1::FINISH_REASON_ABORTED);

  server.Disconnect();
  ASSERT_TRUE(server.process().WaitForEnd()) << server.process().Err();
  EXPECT_EQ(server.process().Wait().code, 0);
}

TEST(Serve, WhatRunsPastTheDrainLimitIsUnavailable) {
  ServedModel server({"--drain-timeout", "500ms"});
  Running endless(server.stub(), AskForever("endless"));
  server.process().Signal(SIGTERM);
  const grpc::Status status = endless.ReadToTheEnd();
  EXPECT_EQ(status.error_code(), Code::UNAVAILABLE) << status.error_message();
  EXPECT_THAT(status.error_message(), HasSubstr("drain limit of 500ms"));
  ASSERT_TRUE(server.process().WaitForEnd()) << server.process().Err();
  const Finished ended = server.process().Wait();
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.err, HasSubstr("drain limit passed"));
}

// Whoever reads its log has stopped reading, and the pipe is full.
TEST(Serve, SignalsEndItThoughNobodyReadsItsLog) {
  const std::string pipe = testing::TempDir() + "unread";
  unlink(pipe.c_str());
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const int end = open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(end, 0);
  const std::string page(4096, 'x');
  while (write(end, page.data(), page.size()) > 0) {
  }
  std::vector<std::string> command = ServeCommand({});
  command.insert(command.begin(), {"/bin/sh", "-c", "exec \"$0\" \"$@\" 2>" + pipe});
  Process server(command);
  // Signals are held back before the first line is logged.
  const std::string status = absl::StrCat("/proc/", server.pid(), "/status");
  for (bool held = false; !held;) {
    std::ifstream lines(status);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("SigBlk:")) {
        held = (std::stoull(line.substr(7), nullptr, 16) >> (SIGTERM - 1) & 1) != 0;
      }
    }
  }
  server.Signal(SIGTERM);
  EXPECT_TRUE(server.WaitForEnd());
  close(end);
  unlink(pipe.c_str());
}

TEST(Serve, ASecondSignalStopsAtOnce) {
  ServedModel server({"--drain-timeout", "1h"});
  Running endless(server.stub(), AskForever("endless"));
  server.process().Signal(SIGTERM);
  ASSERT_TRUE(server.process().WaitForErr("info draining"));
  server.process().Signal(SIGINT);  // SIGTERM at once would be the first one's echo
  ASSERT_TRUE(server.process().WaitForEnd()) << server.process().Err();
  EXPECT_EQ(server.process().Wait().code, 1);
  EXPECT_EQ(endless.ReadToTheEnd().error_code(), Code::UNAVAILABLE);
}

}  // namespace
}  // namespace ballast
