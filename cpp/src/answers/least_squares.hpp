/// Small rotations and least squares in three unknowns.
#pragma once

#include <microinfer/matrix3.hpp>

#include <cmath>

namespace microinfer::refinement {

inline double squared(double x) {
    return x * x;
}

inline Vector3<double> multiply(const Matrix3<double>& a, const Vector3<double>& v) {
    return {a.m[0][0] * v.x + a.m[0][1] * v.y + a.m[0][2] * v.z,
            a.m[1][0] * v.x + a.m[1][1] * v.y + a.m[1][2] * v.z,
            a.m[2][0] * v.x + a.m[2][1] * v.y + a.m[2][2] * v.z};
}

/// The rotation by |w| about w.
inline Matrix3<double> rotation(const Vector3<double>& w) {
    const double angle = std::sqrt(dot(w, w));
    const double a = angle > 1e-8 ? std::sin(angle) / angle : 1.0;
    const double b = angle > 1e-8 ? (1.0 - std::cos(angle)) / squared(angle) : 0.5;
    const Matrix3<double> k = cross_matrix(w);
    const Matrix3<double> kk = multiply(k, k);
    Matrix3<double> r = identity<double>();
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            r.m[i][j] += a * k.m[i][j] + b * kk.m[i][j];
        }
    }
    return r;
}

/// Solves a x = b for a symmetric positive definite a, by Cramer's rule.
inline Vector3<double> solve(const Matrix3<double>& a, const Vector3<double>& b) {
    const Vector3<double> r0{a.m[0][0], a.m[0][1], a.m[0][2]};
    const Vector3<double> r1{a.m[1][0], a.m[1][1], a.m[1][2]};
    const Vector3<double> r2{a.m[2][0], a.m[2][1], a.m[2][2]};
    const Vector3<double> c0 = cross(r1, r2);
    const Vector3<double> c1 = cross(r2, r0);
    const Vector3<double> c2 = cross(r0, r1);
    const double scale = 1.0 / dot(r0, c0);
    return {scale * (c0.x * b.x + c1.x * b.y + c2.x * b.z), scale * (c0.y * b.x + c1.y * b.y + c2.y * b.z),
            scale * (c0.z * b.x + c1.z * b.y + c2.z * b.z)};
}

/// The normal equations of a least-squares problem in three unknowns.
struct NormalEquations {
    Matrix3<double> a = filled(0.0);
    Vector3<double> b{0.0, 0.0, 0.0};

    /// Adds (residual - slope . x)^2 * weight.
    void add(const Vector3<double>& slope, double residual, double weight) {
        const double s[3] = {slope.x, slope.y, slope.z};
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j) {
                a.m[i][j] += weight * s[i] * s[j];
            }
        }
        b.x += weight * residual * slope.x;
        b.y += weight * residual * slope.y;
        b.z += weight * residual * slope.z;
    }
};

}  // namespace microinfer::refinement
