// One thread per matrix.
#include "launch.cuh"

#include <microinfer/procrustes_math.hpp>

namespace microinfer::cuda {
namespace {

template <typename T>
__global__ void project_kernel(const T* matrix, std::int64_t batch_size, T* rotation) {
    const std::int64_t i = thread_index();
    if (i < batch_size) {
        store(nearest_rotation(load(matrix + 9 * i)), rotation + 9 * i);
    }
}

template <typename T>
__global__ void project_backward_kernel(const T* matrix, const T* rotation, const T* upstream,
                                        std::int64_t batch_size, T* gradient) {
    const std::int64_t i = thread_index();
    if (i < batch_size) {
        store(nearest_rotation_gradient(load(matrix + 9 * i), load(rotation + 9 * i), load(upstream + 9 * i)),
              gradient + 9 * i);
    }
}

}  // namespace

template <typename T>
void project_to_so3(const T* matrix, std::int64_t batch_size, T* rotation, const Stream& stream) {
    launch(project_kernel<T>, batch_size, stream, matrix, batch_size, rotation);
}

template <typename T>
void project_to_so3_backward(const T* matrix, const T* rotation, const T* upstream, std::int64_t batch_size,
                             T* gradient, const Stream& stream) {
    launch(project_backward_kernel<T>, batch_size, stream, matrix, rotation, upstream, batch_size, gradient);
}

template void project_to_so3(const float*, std::int64_t, float*, const Stream&);
template void project_to_so3(const double*, std::int64_t, double*, const Stream&);
template void project_to_so3_backward(const float*, const float*, const float*, std::int64_t, float*,
                                      const Stream&);
template void project_to_so3_backward(const double*, const double*, const double*, std::int64_t, double*,
                                      const Stream&);

}  // namespace microinfer::cuda
