/// 3x3 matrices for CPU and CUDA code.
#pragma once

#include <microinfer/host_device.hpp>

#include <cmath>
#include <cstdint>

namespace microinfer {

template <typename T>
struct Vector3 {
    T x, y, z;
};

template <typename T>
MICROINFER_HD T dot(const Vector3<T>& a, const Vector3<T>& b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

template <typename T>
MICROINFER_HD Vector3<T> cross(const Vector3<T>& a, const Vector3<T>& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

template <typename T>
MICROINFER_HD Vector3<T> scaled(const Vector3<T>& a, T factor) {
    return {a.x * factor, a.y * factor, a.z * factor};
}

/// Row-major 3x3 matrix.
template <typename T>
struct Matrix3 {
    T m[3][3];
};

/// Reads a matrix whose elements lie `stride` apart, row by row.
template <typename T>
MICROINFER_HD Matrix3<T> load(const T* elements, std::int64_t stride = 1) {
    Matrix3<T> a;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            a.m[i][j] = elements[(3 * i + j) * stride];
        }
    }
    return a;
}

template <typename T>
MICROINFER_HD void store(const Matrix3<T>& a, T* elements) {
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            elements[3 * i + j] = a.m[i][j];
        }
    }
}

template <typename T>
MICROINFER_HD Matrix3<T> filled(T value) {
    return {{{value, value, value}, {value, value, value}, {value, value, value}}};
}

template <typename T>
MICROINFER_HD Matrix3<T> identity() {
    return {{{T(1), T(0), T(0)}, {T(0), T(1), T(0)}, {T(0), T(0), T(1)}}};
}

template <typename T>
MICROINFER_HD T trace(const Matrix3<T>& a) {
    return a.m[0][0] + a.m[1][1] + a.m[2][2];
}

/// a b
template <typename T>
MICROINFER_HD Matrix3<T> multiply(const Matrix3<T>& a, const Matrix3<T>& b) {
    Matrix3<T> c;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            c.m[i][j] = a.m[i][0] * b.m[0][j] + a.m[i][1] * b.m[1][j] + a.m[i][2] * b.m[2][j];
        }
    }
    return c;
}

template <typename T>
MICROINFER_HD Matrix3<T> transposed(const Matrix3<T>& a) {
    return {{{a.m[0][0], a.m[1][0], a.m[2][0]},
             {a.m[0][1], a.m[1][1], a.m[2][1]},
             {a.m[0][2], a.m[1][2], a.m[2][2]}}};
}

/// The vector w with [w]x = a - a^T, [w]x being the matrix of the cross product with w.
template <typename T>
MICROINFER_HD Vector3<T> skew_vector(const Matrix3<T>& a) {
    return {a.m[2][1] - a.m[1][2], a.m[0][2] - a.m[2][0], a.m[1][0] - a.m[0][1]};
}

/// The matrix [w]x of the cross product with w.
template <typename T>
MICROINFER_HD Matrix3<T> cross_matrix(const Vector3<T>& w) {
    return {{{T(0), -w.z, w.y}, {w.z, T(0), -w.x}, {-w.y, w.x, T(0)}}};
}

}  // namespace microinfer
