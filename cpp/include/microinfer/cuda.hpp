/// The CUDA twins of the core's functions: same names, same views, same rules.
///
/// All pointers are to memory of the stream's device; the functions only enqueue work and return. They throw
/// std::runtime_error with CUDA's message where a launch fails, and one that says how to build with CUDA
/// where the library was built without.
#pragma once

#include <microinfer/geodesic.hpp>
#include <microinfer/procrustes.hpp>
#include <microinfer/tokenizer.hpp>

#include <cstdint>

namespace microinfer::cuda {

/// Where the work is enqueued.
struct Stream {
    /// Index of the CUDA device.
    int device;
    /// The cudaStream_t, as an integer; 0 is the default stream.
    std::uintptr_t handle;
};

/// Whether this library was built with CUDA.
bool is_built();

/// As microinfer::count_disks(). A pattern whose offsets do not lie within the peaks has no disks.
void count_disks(const RaggedPeaks& peaks, const TokenSpec& spec, std::int32_t* count, const Stream& stream);

/// As microinfer::tokenize(). A pattern whose offsets do not lie within the peaks is invalid, with no disks.
void tokenize(const RaggedPeaks& peaks, const TokenSpec& spec, const TokenArrays& tokens,
              const Stream& stream);

/// As microinfer::symmetry_min_geodesic().
template <typename T>
void symmetry_min_geodesic(const OrientationPairs<T>& pairs, T* angle, std::int64_t* index,
                           const Stream& stream);

/// As microinfer::symmetry_min_geodesic_backward().
template <typename T>
void symmetry_min_geodesic_backward(const OrientationPairs<T>& pairs, const std::int64_t* index,
                                    const T* upstream, T* predicted_gradient, T* label_gradient,
                                    const Stream& stream);

/// As microinfer::project_to_so3().
template <typename T>
void project_to_so3(const T* matrix, std::int64_t batch_size, T* rotation, const Stream& stream);

/// As microinfer::project_to_so3_backward().
template <typename T>
void project_to_so3_backward(const T* matrix, const T* rotation, const T* upstream, std::int64_t batch_size,
                             T* gradient, const Stream& stream);

}  // namespace microinfer::cuda
