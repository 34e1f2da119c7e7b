#include "tools/eval/tasks.h"

#include <algorithm>
#include <span>

#include "base/quoted.h"
#include "base/str_cat.h"
#include "tools/eval/longbench.h"
#include "tools/eval/ruler.h"

namespace lukv {
namespace {

constexpr size_t kNeedleTasks = 8;

bool Contains(std::span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseTasks(const std::vector<std::string>& names) {
  const std::span<const std::string_view> ruler = RulerTaskNames();
  const std::span<const std::string_view> longbench = LongBenchTaskNames();
  std::vector<std::string> tasks;
  const auto add = [&](std::span<const std::string_view> more) {
    for (const std::string_view task : more) {
      if (std::find(tasks.begin(), tasks.end(), task) == tasks.end()) tasks.emplace_back(task);
    }
  };
  for (const std::string_view name : names) {
    if (name == "needle") {
      add(ruler.first(kNeedleTasks));
    } else if (name == "ruler") {
      add(ruler);
    } else if (name == "longbench") {
      add(longbench);
    } else if (name == kNllTask || Contains(ruler, name) || Contains(longbench, name)) {
      add({&name, 1});
    } else {
      std::string known = StrCat("needle, ruler, longbench, ", kNllTask);
      for (const std::string_view task : ruler) known += StrCat(", ", task);
      for (const std::string_view task : longbench) known += StrCat(", ", task);
      return absl::InvalidArgumentError(StrCat("no task ", Quoted(name), ", tasks are ", known));
    }
  }
  if (tasks.empty()) return absl::InvalidArgumentError("no task is named");
  return tasks;
}

TaskKind KindOf(std::string_view task) {
  if (task == kNllTask) return TaskKind::kNll;
  return Contains(LongBenchTaskNames(), task) ? TaskKind::kLongBench : TaskKind::kRuler;
}

std::string_view PlotGroup(std::string_view task) {
  if (KindOf(task) == TaskKind::kNll) return kNllTask;
  if (KindOf(task) == TaskKind::kLongBench) return "longbench";
  if (task.starts_with("niah")) return "niah";
  return task.starts_with("qa") ? "qa" : "vt_cwe_fwe";
}

}  // namespace lukv
