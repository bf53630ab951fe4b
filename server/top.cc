// `ballast top`: what the experts of a running server do, live in the terminal.
#include <grpcpp/grpcpp.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ballast/v1/expert_admin.grpc.pb.h"
#include "ballast/v1/text_generation.grpc.pb.h"
#include "server/client.h"
#include "server/commands.h"
#include "server/options.h"
#include "server/signals.h"
#include "server/top_screen.h"

namespace ballast {
namespace {

constexpr char kName[] = "top";
constexpr int kPlainColumns = 120;
// The other screen of a terminal, without a cursor; and back.
constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l";
constexpr char kLeave[] = "\x1b[0m\x1b[?25h\x1b[?1049l";

bool IsTerminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) != 0 && term != nullptr && std::strcmp(term, "dumb") != 0;
}

Screen MeasureScreen(bool terminal) {
  Screen screen;
  screen.columns = kPlainColumns;
  if (const char* columns = std::getenv("COLUMNS"); columns != nullptr && !terminal) {
    int given = 0;
    if (absl::SimpleAtoi(columns, &given) && given > 0) screen.columns = given;
  }
  winsize size = {};
  if (terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    screen.columns = size.ws_col;
    screen.rows = size.ws_row;
  }
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org
  screen.colors = terminal && (no_color == nullptr || *no_color == '\0');
  screen.unicode = terminal && std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  return screen;
}

// Shows frames one over another on a terminal once it is entered, else one after another. Gives the
// terminal back as it was.
class Display {
 public:
  ~Display() { Leave(); }

  void Enter() {
    if (!terminal_) return;
    entered_ = true;
    Write(kEnter);
  }

  // Any thread, once it does something.
  void Leave() {
    if (entered_.exchange(false)) Write(kLeave);
  }

  // False: nobody reads on.
  bool Show(const TopView& view) {
    Screen screen = MeasureScreen(terminal_);
    const bool over = entered_;
    if (!over) screen.rows = 0;
    std::string frame = over ? "\x1b[H" : first_ ? "" : "\n";
    first_ = false;
    const std::vector<std::string> lines = RenderTop(view, screen);
    for (size_t i = 0; i < lines.size(); ++i) {
      absl::StrAppend(&frame, lines[i], over ? "\x1b[K" : "");
      // On a full screen one more newline would scroll.
      if (!over || i + 1 < lines.size()) frame += '\n';
    }
    if (over) frame += "\x1b[J";
    return Write(frame);
  }

 private:
  static bool Write(const std::string& text) {
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
           std::fflush(stdout) == 0;
  }

  const bool terminal_ = IsTerminal();
  std::atomic<bool> entered_ = false;
  bool first_ = true;
};

struct Connection {
  std::unique_ptr<v1::ExpertAdmin::Stub> admin;
  std::string title;
};

grpc::Status ShowOnce(const Connection& server, grpc::ClientContext& context, double window,
                      Display& display) {
  v1::GetExpertLoadRequest request;
  request.set_window_s(window);
  TopView view;
  grpc::Status status = server.admin->GetExpertLoad(&context, request, &view.load);
  if (!status.ok()) return status;
  view.title = server.title;
  view.watched_moves = view.load.slot_moves();
  if (display.Show(view)) return status;
  return {grpc::StatusCode::DATA_LOSS, "stdout: the frame cannot be written"};
}

grpc::Status Watch(const Connection& server, grpc::ClientContext& context, double interval,
                   Display& display, std::atomic<bool>& stopped) {
  v1::WatchExpertLoadRequest request;
  request.set_interval_ms(static_cast<uint32_t>(interval * 1e3));
  const auto reader = server.admin->WatchExpertLoad(&context, request);
  TopView view;
  view.title = server.title;
  display.Enter();
  while (reader->Read(&view.load)) {
    view.watched_moves += view.load.slot_moves();
    if (display.Show(view)) continue;
    stopped = true;
    context.TryCancel();
  }
  display.Leave();
  return reader->Finish();
}

absl::StatusOr<std::unique_ptr<grpc::ClientContext>> MakeContext(const ClientOptions& client) {
  auto context = std::make_unique<grpc::ClientContext>();
  RETURN_IF_ERROR(AddApiKey(client, *context));
  return context;
}

}  // namespace

int RunTop(const std::vector<std::string>& arguments) {
  TopOptions options;
  const auto answer = ReadTopOptions(arguments, options);
  if (!answer.ok()) return ReportUsage(kName, answer.status());
  if (*answer) {
    std::fputs((*answer)->c_str(), stdout);
    return kDone;
  }
  std::setlocale(LC_CTYPE, "");
  const ClientOptions client = {options.server, options.api_key_file, options.tls_ca};
  auto asking = MakeContext(client);
  if (!asking.ok()) return Fail(kName, std::string(asking.status().message()));
  auto watching = MakeContext(client);
  if (!watching.ok()) return Fail(kName, std::string(watching.status().message()));

  Display display;
  std::atomic<bool> stopped = false;
  const StopSignals signals([&](int count) {
    if (count > 1) {
      display.Leave();
      std::_Exit(kFailed);
    }
    stopped = true;
    (*asking)->TryCancel();
    (*watching)->TryCancel();
  });
  const auto channel = Connect(client);
  if (!channel.ok()) return Fail(kName, std::string(channel.status().message()));
  v1::GetModelInfoResponse info;
  grpc::Status status = v1::TextGeneration::NewStub(*channel)->GetModelInfo(
      asking->get(), v1::GetModelInfoRequest(), &info);
  if (status.ok()) {
    const Connection server = {v1::ExpertAdmin::NewStub(*channel),
                               absl::StrCat(info.name(), "  ", options.server)};
    status = options.once ? ShowOnce(server, **watching, options.window_seconds, display)
                          : Watch(server, **watching, options.interval_seconds, display, stopped);
  }
  // Watching ends by Ctrl-C: that is no failure.
  if (status.ok() || (stopped && status.error_code() == grpc::StatusCode::CANCELLED)) return kDone;
  return Fail(kName, status, options.server);
}

}  // namespace ballast
