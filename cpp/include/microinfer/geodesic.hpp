/// The symmetry-min geodesic loss: the smallest misorientation angle over a crystal's symmetry equivalents.
#pragma once

#include <cstdint>

namespace microinfer {

/// A batch of predicted and label orientations and the symmetry operators between them, for T float or
/// double. All matrices are row-major. Not owning.
template <typename T>
struct OrientationPairs {
    /// Predicted orientations, (batch, 3, 3).
    const T* predicted;
    /// Label orientations, (batch, 3, 3).
    const T* label;
    /// Proper symmetry operators, (operators, 3, 3), applied to the label from the left.
    const T* operators;
    /// Number of orientations.
    std::int64_t batch_size;
    /// Number of operators, at least 1.
    std::int64_t operator_count;
};

/// Writes, for each pair, the smallest angle over the operators (radians, (batch,)) and the index of the
/// operator that gives it, the lowest where several do ((batch,)). The formula is in geodesic_math.hpp.
template <typename T>
void symmetry_min_geodesic(const OrientationPairs<T>& pairs, T* angle, std::int64_t* index);

/// Writes the gradients of sum(upstream * angle) with respect to the predicted and to the label orientations,
/// (batch, 3, 3) each; `index` is what symmetry_min_geodesic() found.
template <typename T>
void symmetry_min_geodesic_backward(const OrientationPairs<T>& pairs, const std::int64_t* index,
                                    const T* upstream, T* predicted_gradient, T* label_gradient);

}  // namespace microinfer
