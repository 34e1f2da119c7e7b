#include "server/request_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lukv {

std::string RequestTable(const std::vector<RequestRow>& rows, absl::Time now) {
  std::string table = absl::StrFormat("%-40s %-9s %8s %8s %9s %3s %8s %8s %-12s %s\n", "request", "state", "seconds",
                                      "prompt", "generated", "n", "priority", "pages", "tenant", "policy");
  for (const RequestRow& row : rows) {
    absl::StrAppend(&table, absl::StrFormat("%-40s %-9s %8.2f %8d %9d %3d %8d %8d %-12s %s\n", row.id, row.state,
                                            absl::ToDoubleSeconds(now - row.submitted), row.prompt_tokens,
                                            row.generated_tokens, row.samples, row.priority, row.pages,
                                            row.tenant.empty() ? "-" : row.tenant, row.policy));
  }
  return table;
}

}  // namespace lukv
