/// The rotation angle between a prediction and the symmetry equivalents of a label, and its gradient.
///
/// With R_g = (g label) predicted^T, the angle under the operator g is
///
///     angle_g = atan2(|v_g|, c_g),   v_g = vee(R_g - R_g^T) / 2,   c_g = (tr R_g - 1) / 2,
///
/// which for rotations is the angle of R_g, accurate near 0 and near pi alike. It is defined, by the same
/// formula, for any 3x3 matrices.
#pragma once

#include <microinfer/matrix3.hpp>

namespace microinfer {

/// The sine and the cosine of angle_g, up to a common positive factor where the matrices are no rotations.
template <typename T>
struct SineCosine {
    T sine;
    T cosine;
};

/// Sine and cosine of the rotation angle of g m, for m = label predicted^T.
template <typename T>
MICROINFER_HD SineCosine<T> sine_cosine(const Matrix3<T>& g, const Matrix3<T>& m) {
    const Matrix3<T> r = multiply(g, m);
    const Vector3<T> v = scaled(skew_vector(r), T(0.5));
    return {std::sqrt(dot(v, v)), T(0.5) * (trace(r) - T(1))};
}

/// A number in [0, 2] that rises with the angle, cheaper than the angle itself.
template <typename T>
MICROINFER_HD T angle_rank(const SineCosine<T>& s) {
    const T sum = s.sine + std::abs(s.cosine);
    const T ratio = sum > T(0) ? s.sine / sum : s.sine;
    return s.cosine < T(0) ? T(2) - ratio : ratio;
}

/// Gradients of one angle.
template <typename T>
struct GeodesicGradient {
    Matrix3<T> predicted;
    Matrix3<T> label;
};

/// Gradient of angle_g, times `upstream`. Where |v_g| = 0, at an angle of exactly 0 or pi, it is zero: a
/// subgradient at 0, and the mean over all directions at pi.
template <typename T>
MICROINFER_HD GeodesicGradient<T> geodesic_gradient(const Matrix3<T>& predicted, const Matrix3<T>& label,
                                                    const Matrix3<T>& g, T upstream) {
    const Matrix3<T> r = multiply(g, multiply(label, transposed(predicted)));
    const Vector3<T> v = scaled(skew_vector(r), T(0.5));
    const T sine = std::sqrt(dot(v, v));
    const T cosine = T(0.5) * (trace(r) - T(1));
    const T square = sine * sine + cosine * cosine;
    if (sine == T(0) || square == T(0)) {
        return {filled(T(0)), filled(T(0))};
    }
    const T by_sine = upstream * cosine / square;
    const T by_cosine = -upstream * sine / square;
    Matrix3<T> by_r = cross_matrix(scaled(v, T(0.5) * by_sine / sine));
    for (int i = 0; i < 3; ++i) {
        by_r.m[i][i] = T(0.5) * by_cosine;
    }
    const Matrix3<T> by_m = multiply(transposed(g), by_r);
    return {multiply(transposed(by_m), label), multiply(by_m, predicted)};
}

}  // namespace microinfer
