#include "tests/e2e/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/server/http_get.h"

namespace lukv {
namespace {

std::string NewFolder() {
  static std::atomic<int> counter = 0;
  const std::string path =
      testing::TempDir() + "/lukv-e2e-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
  std::filesystem::create_directories(path);
  return path;
}

void Redirect(const std::string& path, int flags, int fd) {
  const int file = open(path.c_str(), flags, 0600);
  if (file < 0 || dup2(file, fd) < 0) _exit(127);
}

int ExitCode(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

std::string ProgramPath(const std::string& name) { return std::string(LUKV_BIN_DIR) + "/" + name; }

std::string DemoModelPath() {
  const char* folder = std::getenv("LUKV_MODEL_DIR");
  const char* home = std::getenv("HOME");
  return (folder != nullptr ? std::string(folder) : std::string(home != nullptr ? home : "") + "/.cache/lukv") +
         "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

std::string ReadFileOrEmpty(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Process::Process(const std::string& program, const std::vector<std::string>& arguments, const std::string& input)
    : folder_(NewFolder()) {
  std::ofstream(folder_ + "/stdin", std::ios::binary) << input;
  const std::string path = ProgramPath(program);
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const std::string in = folder_ + "/stdin";
  const std::string out = folder_ + "/stdout";
  const std::string err = folder_ + "/stderr";
  pid_ = fork();
  if (pid_ == 0) {
    Redirect(in, O_RDONLY, STDIN_FILENO);
    Redirect(out, O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    Redirect(err, O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
}

Process::~Process() {
  if (Running()) {
    Signal(SIGKILL);
    Wait();
  }
  std::filesystem::remove_all(folder_);
}

void Process::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

bool Process::Running() {
  if (pid_ <= 0) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_code_ = ExitCode(status);
  pid_ = -1;
  return false;
}

int Process::Wait() {
  if (pid_ > 0) {
    int status = 0;
    waitpid(pid_, &status, 0);
    exit_code_ = ExitCode(status);
    pid_ = -1;
  }
  return exit_code_;
}

std::string Process::Stdout() const { return ReadFileOrEmpty(folder_ + "/stdout"); }
std::string Process::Stderr() const { return ReadFileOrEmpty(folder_ + "/stderr"); }

ServerProcess::ServerProcess(const std::vector<std::string>& arguments) {
  const std::string ready = testing::TempDir() + "/lukv-ready-" + std::to_string(getpid()) + ".json";
  std::filesystem::remove(ready);
  std::vector<std::string> all = {"--model",          DemoModelPath(), "--listen",     "127.0.0.1:0",
                                  "--metrics-listen", "127.0.0.1:0",   "--ready-file", ready};
  all.insert(all.end(), arguments.begin(), arguments.end());
  process_ = std::make_unique<Process>("lukv-server", all);
  while (!std::filesystem::exists(ready)) {
    if (!process_->Running()) {
      ADD_FAILURE() << "the server ended with " << process_->Wait() << ": " << process_->Stderr();
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const auto json = nlohmann::json::parse(ReadFileOrEmpty(ready));
  address_ = json["listen"];
  plaintext_address_ = json["plaintext"];
  health_address_ = json["health"];
  metrics_address_ = json["metrics"];
  std::filesystem::remove(ready);
}

double ServerProcess::Metric(const std::string& name) const {
  const std::string page = HttpGet(metrics_address_, "/metrics");
  const size_t line = page.find("\n" + name + "{");
  if (line == std::string::npos) return std::nan("");
  return std::atof(page.c_str() + page.find("} ", line) + 2);
}

}  // namespace lukv
