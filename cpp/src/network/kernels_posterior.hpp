/// The loops of a posterior: sums over disks and cells, searches, and rotations near each other. Of the
/// instruction set of whoever includes it, see kernels_impl.hpp.
#pragma once

#include "kernels.hpp"
#include "kernels_vectors.hpp"

#include <cstdint>

namespace microinfer::networks {
namespace {

void sum_rows(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t width, const float* weight,
              std::int64_t sums, float* y) {
    for (std::int64_t n = 0; n < sums; ++n) {
        for (std::int64_t i = 0; i < width; i += kLanes) {  // into the padding, which is zero
            Vector sum{};
            for (std::int64_t r = 0; r < rows; ++r) {
                sum += weight[r * sums + n] * load<Vector>(x + r * stride + i);
            }
            store(y + n * stride + i, sum);
        }
    }
}

std::int64_t highest(const float* x, std::int64_t size) {
    using Integers = Simd<kLanes>::Integers;
    const std::int64_t whole = size / kLanes * kLanes;
    Vector best = Vector{} - __builtin_inff();
    Integers at{};  // the first element of the vector that holds each lane's best
    for (std::int64_t i = 0; i < whole; i += kLanes) {
        const Vector v = load<Vector>(x + i);
        at = v > best ? Integers{} + static_cast<std::int32_t>(i) : at;
        best = v > best ? v : best;
    }
    std::int64_t first = whole < size ? whole : 0;
    for (std::int64_t i = whole; i < size; ++i) {
        first = x[i] > x[first] ? i : first;
    }
    for (std::int64_t lane = 0; lane < kLanes && whole > 0; ++lane) {
        const std::int64_t i = at[lane] + lane;
        first = x[i] > x[first] || (x[i] == x[first] && i < first) ? i : first;
    }
    return first;
}

std::int64_t next_above(const float* x, std::int64_t begin, std::int64_t size, float threshold) {
    constexpr std::int64_t chunk = 4 * kLanes;
    std::int64_t i = begin;
    for (; i + chunk <= size; i += chunk) {
        const Vector left = larger(load<Vector>(x + i), load<Vector>(x + i + kLanes));
        const Vector right = larger(load<Vector>(x + i + 2 * kLanes), load<Vector>(x + i + 3 * kLanes));
        if (largest_of(larger(left, right)) > threshold) {
            break;
        }
    }
    while (i < size && !(x[i] > threshold)) {
        ++i;
    }
    return i;
}

float log_sum_exp(const float* x, std::int64_t size) {
    const std::int64_t whole = size / kLanes * kLanes;
    const float most = x[highest(x, size)];
    Vector sums{};
    for (std::int64_t i = 0; i < whole; i += kLanes) {
        sums += exponential(load<Vector>(x + i) - most);
    }
    float sum = sum_of(sums);
    for (std::int64_t i = whole; i < size; ++i) {
        sum += __builtin_expf(x[i] - most);
    }
    return most + __builtin_logf(sum);
}

void complex_dot(const float* x, const float* y, const float* a, const float* b, std::int64_t size,
                 float* real, float* imaginary) {
    const std::int64_t whole = size / kLanes * kLanes;
    Vector reals{};
    Vector imaginaries{};
    for (std::int64_t i = 0; i < whole; i += kLanes) {
        const Vector xs = load<Vector>(x + i);
        const Vector ys = load<Vector>(y + i);
        const Vector as = load<Vector>(a + i);
        const Vector bs = load<Vector>(b + i);
        reals += xs * as - ys * bs;
        imaginaries += xs * bs + ys * as;
    }
    *real = sum_of(reals);
    *imaginary = sum_of(imaginaries);
    for (std::int64_t i = whole; i < size; ++i) {
        *real += x[i] * a[i] - y[i] * b[i];
        *imaginary += x[i] * b[i] + y[i] * a[i];
    }
}

void nearest(const QuaternionsView& rotations, const QuaternionsView& others, float* cosine,
             std::int32_t* which) {
    using Integers = Simd<kLanes>::Integers;
    for (std::int64_t i = 0; i < rotations.count; i += kLanes) {  // into the filling
        const Vector w = load<Vector>(rotations.part[0] + i);
        const Vector x = load<Vector>(rotations.part[1] + i);
        const Vector y = load<Vector>(rotations.part[2] + i);
        const Vector z = load<Vector>(rotations.part[3] + i);
        Vector best{};
        Integers at{};
        for (std::int64_t j = 0; j < others.count; ++j) {
            const Vector product =
                w * others.part[0][j] + x * others.part[1][j] + y * others.part[2][j] + z * others.part[3][j];
            const Vector size = product < 0.0F ? -product : product;
            at = size > best ? Integers{} + static_cast<std::int32_t>(j) : at;
            best = size > best ? size : best;
        }
        store(cosine + i, best);
        store(reinterpret_cast<float*>(which + i), reinterpret_cast<Vector>(at));
    }
}

}  // namespace
}  // namespace microinfer::networks
