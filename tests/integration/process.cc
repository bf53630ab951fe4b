#include "tests/integration/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

namespace ballast {
namespace {

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void Redirect(const std::string& path, int flags, int descriptor) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, descriptor) < 0) _exit(126);
  close(file);
}

}  // namespace

Process::Process(const std::vector<std::string>& command, const std::string& input) {
  static std::atomic<int> count = 0;
  base_ = testing::TempDir() + "ballast-" + std::to_string(getpid()) + "-" +
          std::to_string(count.fetch_add(1));
  std::ofstream(base_ + ".in", std::ios::binary) << input;
  std::vector<char*> arguments;
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  Redirect(base_ + ".in", O_RDONLY, STDIN_FILENO);
  Redirect(base_ + ".out", O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
  Redirect(base_ + ".err", O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
  execv(arguments[0], arguments.data());
  _exit(127);
}

Process::~Process() {
  if (!over_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, &status_, 0);
  }
  for (const char* end : {".in", ".out", ".err"}) unlink((base_ + end).c_str());
}

void Process::Signal(int number) const { kill(pid_, number); }

Finished Process::Wait() {
  if (!over_) waitpid(pid_, &status_, 0);
  over_ = true;
  const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  return {code, Out(), Err()};
}

std::string Process::Out() const { return ReadFile(base_ + ".out"); }

std::string Process::Err() const { return ReadFile(base_ + ".err"); }

template <typename Seen>
bool Process::WaitUntil(Seen seen) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!seen()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    if (!over_ && waitpid(pid_, &status_, WNOHANG) == pid_) over_ = true;
    if (over_) return seen();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

bool Process::WaitForErr(const std::string& text) {
  return WaitUntil([&] { return Err().find(text) != std::string::npos; });
}

bool Process::WaitForOut() {
  return WaitUntil([&] { return !Out().empty(); });
}

bool Process::WaitForEnd() {
  WaitUntil([&] { return over_; });
  return over_;
}

Finished RunProgram(const std::vector<std::string>& command, const std::string& input) {
  return Process(command, input).Wait();
}

}  // namespace ballast
