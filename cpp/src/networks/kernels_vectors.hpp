/// Vectors of numbers and the functions on them. Of the instruction set of whoever includes it, see
/// kernels_impl.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace microinfer::networks {
namespace {

constexpr std::int64_t kLanes = MICROINFER_LANES;
constexpr std::int64_t kHeadLanes = MICROINFER_LANES < 8 ? MICROINFER_LANES : 8;

template <std::int64_t Lanes, typename Real = float>
struct Simd {
    using Integer = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;
    typedef Real Vector __attribute__((vector_size(sizeof(Real) * Lanes)));
    typedef Integer Integers __attribute__((vector_size(sizeof(Real) * Lanes)));
    typedef std::make_unsigned_t<Integer> Bits __attribute__((vector_size(sizeof(Real) * Lanes)));
    typedef Real Unaligned
        __attribute__((vector_size(sizeof(Real) * Lanes), aligned(sizeof(Real)), may_alias));
};
using Vector = Simd<kLanes>::Vector;
/// A whole register.
template <typename Real>
using Full = typename Simd<kLanes * 4 / sizeof(Real), Real>::Vector;
/// The heads that attention computes at a time.
template <typename Real>
using OfHeads = typename Simd<kHeadLanes, Real>::Vector;

template <typename V>
using Element = std::remove_cvref_t<decltype(V{}[0])>;

template <typename V>
constexpr std::int64_t kLanesOf = sizeof(V) / sizeof(Element<V>);

/// Numbers, converted to those of the vector.
template <typename V, typename Number>
[[gnu::always_inline]] inline V load(const Number* p) {
    return __builtin_convertvector(*reinterpret_cast<const typename Simd<kLanesOf<V>, Number>::Unaligned*>(p),
                                   V);
}

template <typename V, typename Number>
[[gnu::always_inline]] inline void store(Number* p, V v) {
    using To = Simd<kLanesOf<V>, Number>;
    *reinterpret_cast<typename To::Unaligned*>(p) = __builtin_convertvector(v, typename To::Vector);
}

[[gnu::always_inline]] inline float square_root(float x) {
    return __builtin_sqrtf(x);
}

[[gnu::always_inline]] inline double square_root(double x) {
    return __builtin_sqrt(x);
}

template <typename V>
[[gnu::always_inline]] inline V larger(V a, V b) {
    return a > b ? a : b;
}

/// All elements of a vector combined, half by half.
template <typename V, typename Combine>
[[gnu::always_inline]] inline Element<V> reduced(V v, const Combine& combine) {
    if constexpr (kLanesOf<V> == 1) {
        return v[0];
    } else {
        typename Simd<kLanesOf<V> / 2, Element<V>>::Vector halves[2];
        __builtin_memcpy(halves, &v, sizeof(v));
        return reduced(combine(halves[0], halves[1]), combine);
    }
}

template <typename V>
[[gnu::always_inline]] inline Element<V> sum_of(V v) {
    return reduced(v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}

template <typename V>
[[gnu::always_inline]] inline Element<V> largest_of(V v) {
    return reduced(v, [](auto a, auto b) __attribute__((always_inline)) { return larger(a, b); });
}

/// exp(x), but exp(-87) below -87: in float32 to rounding, after Cephes (Moshier), in float64 to 3e-13 of it,
/// by Taylor's series.
template <typename V>
[[gnu::always_inline]] inline V exponential(V x) {
    using Real = Element<V>;
    using Bits = typename Simd<kLanesOf<V>, Real>::Bits;
    constexpr bool single = sizeof(Real) == 4;
    constexpr int digits = single ? 23 : 52;
    constexpr Real magic = single ? 12582912.0 : 6755399441055744.0;  // 1.5 * 2^digits: adding it rounds
    x = x < Real{-87} ? V{} - Real{87} : x;
    const V shifted = x * Real(1.44269504088896341) + magic;
    const V n = shifted - magic;
    V y;
    if constexpr (single) {
        const V r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
        y = V{} + 1.9875691500e-4F;
        y = y * r + 1.3981999507e-3F;
        y = y * r + 8.3334519073e-3F;
        y = y * r + 4.1665795894e-2F;
        y = y * r + 1.6666665459e-1F;
        y = y * r + 5.0000001201e-1F;
        y = (y * r * r + r) + 1.0F;
    } else {
        const V r = (x - n * 0.693145751953125) - n * 1.42860682030941723e-6;
        y = V{} + 1.0 / 3628800.0;
        y = y * r + 1.0 / 362880.0;
        y = y * r + 1.0 / 40320.0;
        y = y * r + 1.0 / 5040.0;
        y = y * r + 1.0 / 720.0;
        y = y * r + 1.0 / 120.0;
        y = y * r + 1.0 / 24.0;
        y = y * r + 1.0 / 6.0;
        y = y * r + 0.5;
        y = (y * r + 1.0) * r + 1.0;
    }
    constexpr auto bias = std::uint64_t{single ? 127 : 1023} << digits;
    const Bits exponent = (reinterpret_cast<Bits>(shifted) << digits) + static_cast<Element<Bits>>(bias);
    return y * reinterpret_cast<V>(exponent);
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
