#include "engine/kv/device_page_table.h"

#include <utility>

#include "base/status_macros.h"

namespace lukv {

absl::StatusOr<DevicePageTable> DevicePageTable::Make(HeadPageTable& table, Backend& backend) {
  LUKV_ASSIGN_OR_RETURN(DeviceBuffer words, backend.Allocate(table.n_words() * sizeof(uint32_t)));
  LUKV_RETURN_IF_ERROR(backend.CopyToDevice(words.data(), table.Lengths().data(), table.Lengths().size_bytes()));
  return DevicePageTable(table, backend, std::move(words));
}

absl::Status DevicePageTable::Update() {
  const std::vector<ScatterUpdate> updates = table_->Changes();
  LUKV_RETURN_IF_ERROR(backend_->Scatter(
      {.to = words_.as<uint32_t>(), .updates = updates.data(), .n_updates = static_cast<int64_t>(updates.size())}));
  table_->ForgetChanges();
  return absl::OkStatus();
}

}  // namespace lukv
