// `ballast top` before the real server, on a terminal and without.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/integration/served_model.h"

namespace ballast {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// A chroot may lack /dev/pts.
bool HasTerminals() {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) return false;
  const bool named = ptsname(terminal) != nullptr;
  close(terminal);
  return named;
}

// A program on a terminal of its own.
class OnTerminal {
 public:
  OnTerminal(const std::vector<std::string>& command, winsize size)
      : terminal_(posix_openpt(O_RDWR | O_NOCTTY)) {
    grantpt(terminal_);
    unlockpt(terminal_);
    ioctl(terminal_, TIOCSWINSZ, &size);
    const std::string name = ptsname(terminal_);
    std::vector<char*> arguments;
    for (const std::string& argument : command) {
      arguments.push_back(const_cast<char*>(argument.c_str()));
    }
    arguments.push_back(nullptr);
    pid_ = fork();
    if (pid_ != 0) return;
    setsid();
    const int own = open(name.c_str(), O_RDWR);  // becomes the controlling terminal
    for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(own, descriptor);
    setenv("TERM", "xterm-256color", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("NO_COLOR");
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  ~OnTerminal() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(terminal_);
  }
  OnTerminal(const OnTerminal&) = delete;
  OnTerminal& operator=(const OnTerminal&) = delete;

  // Reads until `text` has come. False: it did not.
  bool Await(const std::string& text) {
    const auto deadline = std::chrono::steady_clock::now() + kHang;
    while (shown_.find(text) == std::string::npos) {
      if (std::chrono::steady_clock::now() > deadline || !ReadMore()) return false;
    }
    return true;
  }

  void Type(char key) const { EXPECT_EQ(write(terminal_, &key, 1), 1); }

  // Its exit code, once it has ended.
  int End() {
    while (ReadMore()) {
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  const std::string& shown() const { return shown_; }

 private:
  bool ReadMore() {
    pollfd wait = {terminal_, POLLIN, 0};
    const auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(kHang);
    if (poll(&wait, 1, static_cast<int>(limit.count())) <= 0) return false;
    char piece[4096];
    const ssize_t got =
        read(terminal_, piece, sizeof(piece));  // fails once the other side is closed
    if (got <= 0) return false;
    shown_.append(piece, static_cast<size_t>(got));
    return true;
  }

  const int terminal_;
  pid_t pid_ = -1;
  std::string shown_;
};

std::vector<std::string> Top(const ServedModel& server, std::vector<std::string> more) {
  more.insert(more.begin(), {BALLAST_PROGRAM, "top", "--server", server.grpc()});
  return more;
}

TEST(Top, OnATerminalItIsLiveAndGivesTheTerminalBack) {
  if (!HasTerminals()) GTEST_SKIP() << "no pseudo-terminals here: /dev/pts is not mounted";
  ServedModel server({"--ranks", "2"});
  Running load(server.stub(), AskForever("load"));
  OnTerminal top(Top(server, {"--interval", "50ms"}), {24, 80, 0, 0});
  EXPECT_TRUE(top.Await("\x1b[?1049h\x1b[?25l")) << top.shown();
  EXPECT_TRUE(top.Await("experts 0 to 31")) << top.shown();
  EXPECT_TRUE(top.Await("\x1b[38;5;71m█")) << top.shown();
  EXPECT_TRUE(top.Await("hottest: layer")) << top.shown();
  constexpr char kInterrupt = 3;
  top.Type(kInterrupt);
  EXPECT_EQ(top.End(), 0);
  EXPECT_THAT(top.shown(), EndsWith("\x1b[0m\x1b[?25h\x1b[?1049l"));
  load.Cancel();
  server.Stop();
}

TEST(Top, WithoutATerminalItPrintsPlainFrames) {
  ServedModel server({"--ranks", "2"});
  server.Generate({"--max-tokens", "20", "--ignore-eos", "The experts"});
  const Finished once = RunProgram(Top(server, {"--once"}));
  EXPECT_EQ(once.code, 0) << once.err;
  EXPECT_THAT(once.out, HasSubstr("ballast-mini  " + server.grpc()));
  EXPECT_THAT(once.out, HasSubstr("layer   max/mean  experts 0 to 31"));
  EXPECT_THAT(once.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(once.out, HasSubstr("hottest: layer"));
  const Finished window = RunProgram(Top(server, {"--once", "--window", "1h"}));
  EXPECT_THAT(window.out, HasSubstr("hottest: layer"));
  Process live(Top(server, {"--interval", "20ms"}));
  EXPECT_TRUE(live.WaitForOut());
  live.Signal(SIGINT);
  EXPECT_EQ(live.Wait().code, 0);
  server.Stop();
}

TEST(Top, FailuresAreToldAndEndIt) {
  const Finished nobody = RunProgram({BALLAST_PROGRAM, "top", "--server", "127.0.0.1:1"});
  EXPECT_EQ(nobody.code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("no connection to the server at 127.0.0.1:1"));
  EXPECT_EQ(RunProgram({BALLAST_PROGRAM, "top", "--interval", "0s"}).code, 2);
}

}  // namespace
}  // namespace ballast
