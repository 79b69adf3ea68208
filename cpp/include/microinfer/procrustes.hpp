/// Batched projection of 3x3 matrices onto the rotations (special orthogonal Procrustes).
#pragma once

#include <cstdint>

namespace microinfer {

/// Writes the rotation nearest to each matrix. Both are row-major (batch, 3, 3), T float or double.
/// The degenerate cases are defined in procrustes_math.hpp.
template <typename T>
void project_to_so3(const T* matrix, std::int64_t batch_size, T* rotation);

/// Writes the gradient with respect to the matrices, given that with respect to the rotations which
/// project_to_so3() found. All are row-major (batch, 3, 3).
template <typename T>
void project_to_so3_backward(const T* matrix, const T* rotation, const T* upstream, std::int64_t batch_size,
                             T* gradient);

}  // namespace microinfer
