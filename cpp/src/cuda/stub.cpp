// Stands in for the CUDA sources in a build without CUDA.
#include <microinfer/cuda.hpp>

#include <stdexcept>

namespace microinfer::cuda {
namespace {

[[noreturn]] void refuse() {
    throw std::runtime_error(
        "microinfer was built without CUDA; install a CUDA toolkit and build it again with the CMake option "
        "MICROINFER_CUDA=ON (pip install . -C cmake.define.MICROINFER_CUDA=ON)");
}

}  // namespace

bool is_built() {
    return false;
}

void count_disks(const RaggedPeaks&, const TokenSpec&, std::int32_t*, const Stream&) {
    refuse();
}

void tokenize(const RaggedPeaks&, const TokenSpec&, const TokenArrays&, const Stream&) {
    refuse();
}

template <typename T>
void symmetry_min_geodesic(const OrientationPairs<T>&, T*, std::int64_t*, const Stream&) {
    refuse();
}

template <typename T>
void symmetry_min_geodesic_backward(const OrientationPairs<T>&, const std::int64_t*, const T*, T*, T*,
                                    const Stream&) {
    refuse();
}

template <typename T>
void project_to_so3(const T*, std::int64_t, T*, const Stream&) {
    refuse();
}

template <typename T>
void project_to_so3_backward(const T*, const T*, const T*, std::int64_t, T*, const Stream&) {
    refuse();
}

template void symmetry_min_geodesic(const OrientationPairs<float>&, float*, std::int64_t*, const Stream&);
template void symmetry_min_geodesic(const OrientationPairs<double>&, double*, std::int64_t*, const Stream&);
template void symmetry_min_geodesic_backward(const OrientationPairs<float>&, const std::int64_t*,
                                             const float*, float*, float*, const Stream&);
template void symmetry_min_geodesic_backward(const OrientationPairs<double>&, const std::int64_t*,
                                             const double*, double*, double*, const Stream&);
template void project_to_so3(const float*, std::int64_t, float*, const Stream&);
template void project_to_so3(const double*, std::int64_t, double*, const Stream&);
template void project_to_so3_backward(const float*, const float*, const float*, std::int64_t, float*,
                                      const Stream&);
template void project_to_so3_backward(const double*, const double*, const double*, std::int64_t, double*,
                                      const Stream&);

}  // namespace microinfer::cuda
