/// The rotation nearest to a 3x3 matrix, and its gradient.
///
/// For M = U diag(s1, s2, s3) V^T the rotation that minimises |R - M| is R = U diag(1, 1, det(U V^T)) V^T
/// (Levinson et al., NeurIPS 2020). It is found by one-sided Jacobi rotations: M V has orthogonal columns, of
/// which the two longest, normalised, give the first two columns of U diag(1, 1, +-1), and their cross
/// product the third.
#pragma once

#include <microinfer/matrix3.hpp>

namespace microinfer {

template <typename T>
MICROINFER_HD Vector3<T> column(const Matrix3<T>& a, int j) {
    return {a.m[0][j], a.m[1][j], a.m[2][j]};
}

/// Rotates the columns p and q of a by the angle of (cosine, sine).
template <typename T>
MICROINFER_HD void rotate_columns(Matrix3<T>& a, int p, int q, T cosine, T sine) {
    for (int i = 0; i < 3; ++i) {
        const T x = a.m[i][p];
        const T y = a.m[i][q];
        a.m[i][p] = cosine * x - sine * y;
        a.m[i][q] = sine * x + cosine * y;
    }
}

/// Exchanges the columns p and q of a and negates one: a rotation by a right angle.
template <typename T>
MICROINFER_HD void exchange_columns(Matrix3<T>& a, int p, int q) {
    rotate_columns(a, p, q, T(0), T(-1));
}

/// A unit vector perpendicular to the unit vector u.
template <typename T>
MICROINFER_HD Vector3<T> perpendicular(const Vector3<T>& u) {
    const T x = std::abs(u.x);
    const T y = std::abs(u.y);
    const T z = std::abs(u.z);
    const Vector3<T> axis = {T(x <= y && x <= z), T(y < x && y <= z), T(z < x && z < y)};
    const Vector3<T> w = cross(u, axis);
    return scaled(w, T(1) / std::sqrt(dot(w, w)));
}

/// The rotation nearest to m. Where several are equally near (s2 + det(U V^T) s3 = 0) it is one of them,
/// always the same for the same m, and the identity for m = 0. NaN throughout where m has a NaN or infinite
/// element.
template <typename T>
MICROINFER_HD Matrix3<T> nearest_rotation(const Matrix3<T>& m) {
    T largest = T(0);
    T poison = T(0);  // 0 for finite elements, else NaN
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            const T size = std::abs(m.m[i][j]);
            largest = size > largest ? size : largest;
            poison += m.m[i][j] * T(0);
        }
    }
    if (poison != T(0)) {
        return filled(poison);
    }
    if (largest == T(0)) {
        return identity<T>();
    }

    // b = m v / largest, v a rotation: turned until the columns of b are orthogonal.
    Matrix3<T> b = m;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            b.m[i][j] /= largest;
        }
    }
    Matrix3<T> v = identity<T>();
    const T tolerance = sizeof(T) == 4 ? T(2e-7) : T(4e-16);
    for (int sweep = 0; sweep < 12; ++sweep) {
        bool turned = false;
        for (int pair = 0; pair < 3; ++pair) {
            const int p = pair == 2 ? 1 : 0;
            const int q = pair == 0 ? 1 : 2;
            const Vector3<T> x = column(b, p);
            const Vector3<T> y = column(b, q);
            const T xx = dot(x, x);
            const T yy = dot(y, y);
            const T xy = dot(x, y);
            if (!(std::abs(xy) > tolerance * std::sqrt(xx) * std::sqrt(yy))) {
                continue;
            }
            turned = true;
            const T zeta = (yy - xx) / (T(2) * xy);
            const T tangent = (zeta < T(0) ? T(-1) : T(1)) / (std::abs(zeta) + std::sqrt(T(1) + zeta * zeta));
            const T cosine = T(1) / std::sqrt(T(1) + tangent * tangent);
            rotate_columns(b, p, q, cosine, cosine * tangent);
            rotate_columns(v, p, q, cosine, cosine * tangent);
        }
        if (!turned) {
            break;
        }
    }

    // The longest column first, the shortest last.
    for (int pair = 0; pair < 3; ++pair) {
        const int p = pair == 1 ? 1 : 0;
        const Vector3<T> x = column(b, p);
        const Vector3<T> y = column(b, p + 1);
        if (dot(x, x) < dot(y, y)) {
            exchange_columns(b, p, p + 1);
            exchange_columns(v, p, p + 1);
        }
    }

    const Vector3<T> b1 = column(b, 0);
    const T first = std::sqrt(dot(b1, b1));
    const Vector3<T> u1 = scaled(b1, T(1) / first);
    Vector3<T> u2 = column(b, 1);
    const T overlap = dot(u1, u2);
    u2 = {u2.x - overlap * u1.x, u2.y - overlap * u1.y, u2.z - overlap * u1.z};
    const T second = std::sqrt(dot(u2, u2));
    u2 = second > tolerance * first ? scaled(u2, T(1) / second) : perpendicular(u1);
    const Vector3<T> u3 = cross(u1, u2);
    const Matrix3<T> u = {{{u1.x, u2.x, u3.x}, {u1.y, u2.y, u3.y}, {u1.z, u2.z, u3.z}}};
    return multiply(u, transposed(v));
}

/// Gradient with respect to m of the rotation r nearest to it, for the upstream gradient with respect to r.
///
/// With the symmetric factor H = r^T m, a change dm turns r by dr = r [w]x, (tr(H) I - H) w = vee(r^T dm -
/// dm^T r), so the gradient is r [y]x with (tr(H) I - H) y = vee(r^T upstream - upstream^T r). The 3x3 system
/// has the eigenvalues s1 + s2, s1 +- s3 and s2 +- s3: equal singular values do no harm. Where the nearest
/// rotation is not unique, and the system therefore singular, the gradient is zero.
template <typename T>
MICROINFER_HD Matrix3<T> nearest_rotation_gradient(const Matrix3<T>& m, const Matrix3<T>& r,
                                                   const Matrix3<T>& upstream) {
    const Matrix3<T> h = multiply(transposed(r), m);
    const Vector3<T> w = skew_vector(multiply(transposed(r), upstream));
    // k = tr(h) I - h, made symmetric, and its adjugate a: k^-1 = a / det(k)
    const T k00 = h.m[1][1] + h.m[2][2];
    const T k11 = h.m[0][0] + h.m[2][2];
    const T k22 = h.m[0][0] + h.m[1][1];
    const T k01 = T(-0.5) * (h.m[0][1] + h.m[1][0]);
    const T k02 = T(-0.5) * (h.m[0][2] + h.m[2][0]);
    const T k12 = T(-0.5) * (h.m[1][2] + h.m[2][1]);
    const T a00 = k11 * k22 - k12 * k12;
    const T a11 = k00 * k22 - k02 * k02;
    const T a22 = k00 * k11 - k01 * k01;
    const T a01 = k02 * k12 - k01 * k22;
    const T a02 = k01 * k12 - k02 * k11;
    const T a12 = k01 * k02 - k00 * k12;
    const T determinant = k00 * a00 + k01 * a01 + k02 * a02;
    const T size = k00 + k11 + k22;
    const T tolerance = sizeof(T) == 4 ? T(1e-6) : T(1e-14);
    if (determinant <= tolerance * size * size * size) {
        return filled(T(0));
    }
    const T inverse = T(1) / determinant;
    const Vector3<T> y = {inverse * (a00 * w.x + a01 * w.y + a02 * w.z),
                          inverse * (a01 * w.x + a11 * w.y + a12 * w.z),
                          inverse * (a02 * w.x + a12 * w.y + a22 * w.z)};
    return multiply(r, cross_matrix(y));
}

}  // namespace microinfer
