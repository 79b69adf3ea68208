/// Vectors of numbers and the functions on them. Of the instruction set of whoever includes it, see
/// kernels_impl.hpp.
#pragma once

#include <cstdint>

namespace microinfer::networks {
namespace {

constexpr std::int64_t kLanes = MICROINFER_LANES;
constexpr std::int64_t kHeadLanes = MICROINFER_LANES < 8 ? MICROINFER_LANES : 8;

template <std::int64_t Lanes>
struct Simd {
    typedef float Vector __attribute__((vector_size(4 * Lanes)));
    typedef std::int32_t Integers __attribute__((vector_size(4 * Lanes)));
    typedef std::uint32_t Bits __attribute__((vector_size(4 * Lanes)));
    typedef float Unaligned __attribute__((vector_size(4 * Lanes), aligned(4), may_alias));
};
using Vector = Simd<kLanes>::Vector;
/// The heads that attention computes at a time.
using OfHeads = Simd<kHeadLanes>::Vector;

template <typename V>
constexpr std::int64_t kLanesOf = sizeof(V) / sizeof(float);

template <typename V>
[[gnu::always_inline]] inline V load(const float* p) {
    return *reinterpret_cast<const typename Simd<kLanesOf<V>>::Unaligned*>(p);
}

template <typename V>
[[gnu::always_inline]] inline void store(float* p, V v) {
    *reinterpret_cast<typename Simd<kLanesOf<V>>::Unaligned*>(p) = v;
}

template <typename V>
[[gnu::always_inline]] inline V larger(V a, V b) {
    return a > b ? a : b;
}

/// All elements of a vector combined, half by half.
template <typename V, typename Combine>
[[gnu::always_inline]] inline float reduced(V v, const Combine& combine) {
    if constexpr (kLanesOf<V> == 1) {
        return v[0];
    } else {
        typename Simd<kLanesOf<V> / 2>::Vector halves[2];
        __builtin_memcpy(halves, &v, sizeof(v));
        return reduced(combine(halves[0], halves[1]), combine);
    }
}

template <typename V>
[[gnu::always_inline]] inline float sum_of(V v) {
    return reduced(v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}

template <typename V>
[[gnu::always_inline]] inline float largest_of(V v) {
    return reduced(v, [](auto a, auto b) __attribute__((always_inline)) { return larger(a, b); });
}

/// exp(x) to rounding, but exp(-87) below -87, after Cephes (Moshier).
template <typename V>
[[gnu::always_inline]] inline V exponential(V x) {
    constexpr float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds
    x = x < -87.0F ? V{} - 87.0F : x;
    const V shifted = x * 1.44269504F + magic;
    const V n = shifted - magic;
    const V r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
    V y = V{} + 1.9875691500e-4F;
    y = y * r + 1.3981999507e-3F;
    y = y * r + 8.3334519073e-3F;
    y = y * r + 4.1665795894e-2F;
    y = y * r + 1.6666665459e-1F;
    y = y * r + 5.0000001201e-1F;
    y = (y * r * r + r) + 1.0F;
    using Bits = typename Simd<kLanesOf<V>>::Bits;
    return y * reinterpret_cast<V>((reinterpret_cast<Bits>(shifted) << 23) + (127U << 23));
}

/// x Phi(x), with the rational approximation of erf that Eigen and XLA use (a few units in the last place).
template <typename V>
[[gnu::always_inline]] inline V gelu(V x) {
    V z = x * 0.70710678F;
    z = z < -4.0F ? V{} - 4.0F : z;
    z = z > 4.0F ? V{} + 4.0F : z;
    const V s = z * z;
    V p = V{} - 2.72614225801306e-10F;
    p = p * s + 2.77068142495902e-08F;
    p = p * s - 2.10102402082508e-06F;
    p = p * s - 5.69250639462346e-05F;
    p = p * s - 7.34990630326855e-04F;
    p = p * s - 2.95459980854025e-03F;
    p = p * s - 1.60960333262415e-02F;
    V q = V{} - 1.45660718464996e-05F;
    q = q * s - 2.13374055278905e-04F;
    q = q * s - 1.68282697438203e-03F;
    q = q * s - 7.37332916720468e-03F;
    q = q * s - 1.42647390514189e-02F;
    return 0.5F * x * (1.0F + z * p / q);
}

}  // namespace
}  // namespace microinfer::networks
