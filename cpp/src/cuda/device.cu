#include "launch.cuh"

#include <stdexcept>
#include <string>

namespace microinfer::cuda {

bool is_built() {
    return true;
}

void check(cudaError_t status, const char* action) {
    if (status != cudaSuccess) {
        throw std::runtime_error(std::string("CUDA error while ") + action + ": " +
                                 cudaGetErrorString(status));
    }
}

DeviceGuard::DeviceGuard(int device) {
    check(cudaGetDevice(&previous_), "asking for the current device");
    check(cudaSetDevice(device), "selecting a device");
}

DeviceGuard::~DeviceGuard() {
    cudaSetDevice(previous_);
}

}  // namespace microinfer::cuda
