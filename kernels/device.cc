#include "kernels/device.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/installation.h"
#include "base/status_macros.h"
#include "base/version.h"

namespace lukv {
namespace {

// The module that LUKV_CUDA_LIBRARY names; "" if it names none.
std::string NamedModule() {
  const char* const path = std::getenv("LUKV_CUDA_LIBRARY");
  return path != nullptr ? path : "";
}

// The number of the CUDA device; none for "cpu" and "auto".
absl::StatusOr<std::optional<int>> CudaDevice(const std::string& device) {
  if (device == "cpu" || device == "auto") return std::nullopt;
  absl::string_view rest = device;
  int number = 0;
  if (absl::ConsumePrefix(&rest, "cuda") &&
      (rest.empty() || (absl::ConsumePrefix(&rest, ":") && absl::SimpleAtoi(rest, &number) && number >= 0))) {
    return number;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("there is no device \"", device, "\": cpu, cuda, cuda:N and auto are known"));
}

absl::StatusOr<std::unique_ptr<Backend>> OpenCuda(const CudaBackendOptions& options) {
  const std::string named = NamedModule();
  const std::string path = named.empty() ? InstallationPath("lib/lukv/liblukv_cuda.so") : named;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return absl::UnavailableError(absl::StrCat("this build has no CUDA module (", path, " does not exist)"));
  }
  // The module brings cuBLASLt, 150 MB that a machine without a driver need not load. (A named one may do without.)
  if (named.empty() && dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == nullptr) {
    return absl::UnavailableError(absl::StrCat("this machine has no CUDA driver: ", dlerror()));
  }
  // Never closed: objects of its classes live as long as the program likes.
  void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    return absl::UnavailableError(absl::StrCat("the CUDA module cannot be loaded: ", dlerror()));
  }
  const auto entry = reinterpret_cast<CudaModuleEntry>(dlsym(module, kCudaModuleEntry));
  if (entry == nullptr) return absl::UnavailableError(absl::StrCat(path, " is not a CUDA module of lukv"));
  absl::StatusOr<std::unique_ptr<Backend>> backend;
  entry(kVersion, options, &backend);
  return backend;
}

}  // namespace

absl::Status CheckDeviceName(const std::string& device) { return CudaDevice(device).status(); }

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const DeviceOptions& options, std::string* why_not_cuda) {
  LUKV_ASSIGN_OR_RETURN(const std::optional<int> cuda_device, CudaDevice(options.device));
  if (options.device == "cpu") return MakeCpuBackend(options.cpu);
  CudaBackendOptions cuda = options.cuda;
  cuda.device = cuda_device.value_or(0);
  absl::StatusOr<std::unique_ptr<Backend>> backend = OpenCuda(cuda);
  if (backend.ok() || cuda_device.has_value()) return backend;
  if (why_not_cuda != nullptr) *why_not_cuda = std::string(backend.status().message());
  return MakeCpuBackend(options.cpu);
}

}  // namespace lukv
