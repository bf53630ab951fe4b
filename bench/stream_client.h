// The clients of server_bench: a process of their own, so that what they cost is not counted as the
// server's.
#pragma once

#include <string>

namespace ballast::bench {

struct ClientPlan {
  std::string server;  // HOST:PORT
  int streams = 64;
  int prompt_tokens = 32;
  int vocab_size = 0;  // prompts are drawn from these ids
  int tokens = 256;    // of each answer
  // Overflow: requests of which each is to be refused, after `waiting` of them have filled the
  // queue behind one that holds all places.
  int waiting = 0;
  int requests = 0;
  int threads = 16;  // that send the second half of them side by side
};

// What streams saw. Times of chunks, which hold one token each unless the reader lags.
struct StreamFigures {
  int64_t tokens = 0;
  int64_t chunks = 0;
  int failed = 0;
  double seconds = 0;  // from the first request to the last answer
  double first_ms_p50 = 0, first_ms_p99 = 0;
  double between_ms_p50 = 0, between_ms_p99 = 0;
};

struct RefusalFigures {
  int refused = 0;
  int other = 0;  // answered otherwise, or not within a second
  double alone_ms_p50 = 0, alone_ms_p99 = 0, alone_ms_max = 0;
  double together_ms_p50 = 0, together_ms_p99 = 0, together_ms_max = 0;
};

// These start the running program once more with arguments that only RunClient understands, and
// wait for what it says. False: it failed; why stands on stderr.
bool RunStreams(const ClientPlan& plan, StreamFigures& figures);
bool RunOverflow(const ClientPlan& plan, RefusalFigures& figures);

// For main, first of all: whether this process is such a client. If so it did its work, and
// `exit_code` is main's.
bool RunClient(int argc, char** argv, int& exit_code);

}  // namespace ballast::bench
