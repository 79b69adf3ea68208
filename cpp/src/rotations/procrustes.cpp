#include <microinfer/procrustes.hpp>
#include <microinfer/procrustes_math.hpp>
#include <microinfer/thread_pool.hpp>

namespace microinfer {
namespace {

/// Matrices per block: some tens of microseconds of work.
constexpr std::int64_t kBlock = 128;

}  // namespace

template <typename T>
void project_to_so3(const T* matrix, std::int64_t batch_size, T* rotation) {
    parallel_for(batch_size, kBlock, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            store(nearest_rotation(load(matrix + 9 * i)), rotation + 9 * i);
        }
    });
}

template <typename T>
void project_to_so3_backward(const T* matrix, const T* rotation, const T* upstream, std::int64_t batch_size,
                             T* gradient) {
    parallel_for(batch_size, kBlock, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            store(nearest_rotation_gradient(load(matrix + 9 * i), load(rotation + 9 * i),
                                            load(upstream + 9 * i)),
                  gradient + 9 * i);
        }
    });
}

template void project_to_so3(const float*, std::int64_t, float*);
template void project_to_so3(const double*, std::int64_t, double*);
template void project_to_so3_backward(const float*, const float*, const float*, std::int64_t, float*);
template void project_to_so3_backward(const double*, const double*, const double*, std::int64_t, double*);

}  // namespace microinfer
