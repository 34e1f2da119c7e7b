// A HeadPageTable's copy on a device, which kernels read.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kv/head_page_table.h"
#include "kernels/backend.h"

namespace lukv {

class DevicePageTable {
 public:
  // The table and the backend must outlive it. The table must have no other copy.
  static absl::StatusOr<DevicePageTable> Make(HeadPageTable& table, Backend& backend);

  // Brings the copy up to date, in stream order: what was issued before sees the old state. After an error the changes
  // are made up for by the next call.
  absl::Status Update();
  // Device arrays; the same ones always.
  PageTableView view() const { return table_->View(words_.as<uint32_t>()); }

 private:
  DevicePageTable(HeadPageTable& table, Backend& backend, DeviceBuffer words)
      : table_(&table), backend_(&backend), words_(std::move(words)) {}

  HeadPageTable* table_;
  Backend* backend_;
  DeviceBuffer words_;
};

}  // namespace lukv
