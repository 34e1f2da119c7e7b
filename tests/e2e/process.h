// Runs the built programs.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace lukv {

std::string ProgramPath(const std::string& name);
// $LUKV_MODEL_DIR or ~/.cache/lukv.
std::string DemoModelPath();
std::string ReadFileOrEmpty(const std::string& path);

// A child with its output in files of a folder of its own. Killed when the object goes, if it is still there.
class Process {
 public:
  // `program`: a name like "lukv-client".
  Process(const std::string& program, const std::vector<std::string>& arguments, const std::string& input = "");
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal);
  bool Running();
  // The exit code; 128 + signal if it was killed by one.
  int Wait();
  std::string Stdout() const;
  std::string Stderr() const;
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  pid_t pid_ = -1;
  int exit_code_ = -1;  // Once it has ended.
};

// lukv-server with the demo model on free loopback ports; returns when it serves (a failure of the test if it does
// not).
class ServerProcess {
 public:
  explicit ServerProcess(const std::vector<std::string>& arguments = {});

  const std::string& address() const { return address_; }
  const std::string& plaintext_address() const { return plaintext_address_; }  // "": none, as the next one.
  const std::string& health_address() const { return health_address_; }
  Process& process() { return *process_; }
  // The value of a metric without labels of its own, NaN if it is not there.
  double Metric(const std::string& name) const;

 private:
  std::unique_ptr<Process> process_;
  std::string address_;
  std::string plaintext_address_;
  std::string health_address_;
  std::string metrics_address_;
};

}  // namespace lukv
