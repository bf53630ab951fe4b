// Runs programs as a shell or a supervisor would: arguments in, exit code, stdout and stderr out.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace ballast {

struct Finished {
  int code = -1;  // exit code; 128 + signal when one ended it
  std::string out;
  std::string err;
};

// A child process whose stdout and stderr go to files of its own.
class Process {
 public:
  // `input` becomes its stdin.
  explicit Process(const std::vector<std::string>& command, const std::string& input = "");
  // Kills it if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int number) const;
  Finished Wait();
  std::string Out() const;
  std::string Err() const;
  // Waits until stderr holds `text`. False: the process ended, or a minute passed, without it.
  bool WaitForErr(const std::string& text);
  // The same of stdout: until it holds at least one byte.
  bool WaitForOut();
  // Waits until it has ended. False: a minute passed.
  bool WaitForEnd();

 private:
  template <typename Seen>
  bool WaitUntil(Seen seen);

  pid_t pid_ = -1;
  int status_ = 0;
  bool over_ = false;
  std::string base_;  // files: base_ + ".in", ".out", ".err"
};

Finished RunProgram(const std::vector<std::string>& command, const std::string& input = "");

}  // namespace ballast
