/// Launching kernels on the caller's device and stream.
#pragma once

#include <microinfer/cuda.hpp>

#include <cuda_runtime.h>

#include <cstdint>

namespace microinfer::cuda {

/// Throws std::runtime_error with CUDA's message where `status` is an error; `action` says what failed.
void check(cudaError_t status, const char* action);

/// Makes a device current for as long as it lives.
class DeviceGuard {
  public:
    explicit DeviceGuard(int device);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

  private:
    int previous_ = 0;
};

/// Enqueues kernel(arguments...) with enough blocks for `size` threads; nothing where there are none.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), std::int64_t size, const Stream& stream, Arguments... arguments) {
    if (size <= 0) {
        return;
    }
    constexpr std::int64_t block = 128;
    const DeviceGuard guard(stream.device);
    const auto grid = static_cast<unsigned int>((size + block - 1) / block);
    kernel<<<grid, static_cast<unsigned int>(block), 0, reinterpret_cast<cudaStream_t>(stream.handle)>>>(
        arguments...);
    check(cudaGetLastError(), "launching a kernel");
}

/// Index of the calling thread in the whole launch.
__device__ inline std::int64_t thread_index() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

}  // namespace microinfer::cuda
