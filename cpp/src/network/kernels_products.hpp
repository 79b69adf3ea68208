/// Linear maps, of float32 or bfloat16 numbers. Of the instruction set of whoever includes it, see
/// kernels_impl.hpp.
#pragma once

#include "kernels.hpp"
#include "kernels_vectors.hpp"

#include <cstdint>

#ifdef MICROINFER_BFLOAT16
#include <immintrin.h>
#endif

namespace microinfer::networks {
namespace {

constexpr std::int64_t kPanel = 2 * kLanes;
constexpr int kRows = MICROINFER_LANES == 16 ? 12 : 6;  // the sums of a tile fill the registers

/// A vector of weights.
[[gnu::always_inline]] inline Vector weights(const float* p) {
    return load<Vector>(p);
}

/// The sum and the product of an input with its weights.
[[gnu::always_inline]] inline Vector multiply_add(Vector sum, const float* x, Vector weight) {
    return sum + *x * weight;
}

#ifdef MICROINFER_BFLOAT16
[[gnu::always_inline]] inline __m512bh weights(const Bfloat16* p) {
    return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p));
}

/// The same for two inputs.
[[gnu::always_inline]] inline Vector multiply_add(Vector sum, const Bfloat16* x, __m512bh weight) {
    std::int32_t both;
    __builtin_memcpy(&both, x, sizeof(both));
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_set1_epi32(both)), weight);
}
#endif

/// Two vectors of outputs for each row of a tile.
template <int Rows>
using Tile = Vector[Rows][2];

/// Sums products of the inputs.
template <int Rows, typename Number>
[[gnu::always_inline]] inline void sum_products(const Number* x, std::int64_t x_stride, const Number* weight,
                                                std::int64_t inputs, Tile<Rows>& sum) {
    constexpr std::int64_t together = sizeof(float) / sizeof(Number);  // inputs of one step
    for (int r = 0; r < Rows; ++r) {
        sum[r][0] = Vector{};
        sum[r][1] = Vector{};
    }
    for (std::int64_t k = 0; k < inputs; k += together) {
        const auto left = weights(weight + k * kPanel);
        const auto right = weights(weight + k * kPanel + together * kLanes);
        for (int r = 0; r < Rows; ++r) {
            const Number* const value = x + r * x_stride + k;
            sum[r][0] = multiply_add(sum[r][0], value, left);
            sum[r][1] = multiply_add(sum[r][1], value, right);
        }
    }
}

template <int Rows, typename Number>
[[gnu::always_inline]] inline void tile(const Number* x, std::int64_t x_stride, const Number* weight,
                                        const float* bias, std::int64_t inputs, float* y,
                                        std::int64_t y_stride, Epilogue epilogue) {
    Tile<Rows> sum;
    sum_products<Rows>(x, x_stride, weight, inputs, sum);
    for (int r = 0; r < Rows; ++r) {
        for (int half = 0; half < 2; ++half) {
            float* const to = y + r * y_stride + half * kLanes;
            const Vector result = sum[r][half] + load<Vector>(bias + half * kLanes);
            if (epilogue == Epilogue::gelu) {
                store(to, gelu(result));
            } else if (epilogue == Epilogue::add) {
                store(to, load<Vector>(to) + result);
            } else {
                store(to, result);
            }
        }
    }
}

/// The last rows, fewer than a tile has.
template <int Rows, typename Number>
void last_tile(std::int64_t rows, const Number* x, std::int64_t x_stride, const Number* weight,
               const float* bias, std::int64_t inputs, float* y, std::int64_t y_stride, Epilogue epilogue) {
    if constexpr (Rows > 0) {
        if (rows == Rows) {
            tile<Rows>(x, x_stride, weight, bias, inputs, y, y_stride, epilogue);
        } else {
            last_tile<Rows - 1>(rows, x, x_stride, weight, bias, inputs, y, y_stride, epilogue);
        }
    }
}

template <typename Number>
void linear(const Number* x, std::int64_t x_stride, std::int64_t rows, const LinearView<Number>& map,
            float* y, std::int64_t y_stride, Epilogue epilogue) {
    for (std::int64_t panel = 0; panel < map.panels; ++panel) {
        const Number* const weight = map.weight + panel * map.inputs * kPanel;
        const float* const bias = map.bias + panel * kPanel;
        float* const to = y + panel * kPanel;
        std::int64_t r = 0;
        for (; r + kRows <= rows; r += kRows) {
            tile<kRows>(x + r * x_stride, x_stride, weight, bias, map.inputs, to + r * y_stride, y_stride,
                        epilogue);
        }
        last_tile<kRows - 1>(rows - r, x + r * x_stride, x_stride, weight, bias, map.inputs,
                             to + r * y_stride, y_stride, epilogue);
    }
}

#ifdef MICROINFER_BFLOAT16
[[gnu::always_inline]] inline Vector load_some(const float* x, std::int64_t count) {
    const auto present = static_cast<__mmask16>(count < kLanes ? (1 << count) - 1 : 0xffff);
    return _mm512_maskz_loadu_ps(present, x);
}

void round(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t inputs, Bfloat16* y,
           std::int64_t y_stride) {
    for (std::int64_t r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        for (std::int64_t i = 0; i < inputs; i += kLanes) {
            const __m256bh nearest = _mm512_cvtneps_pbh(load_some(x + i, inputs - i));
            _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(y + i), reinterpret_cast<__m256i>(nearest));
        }
    }
}
constexpr auto kRound = round;
constexpr auto kLinearBfloat16 = linear<Bfloat16>;
#else
constexpr decltype(Kernels::round) kRound = nullptr;
constexpr decltype(Kernels::linear_bfloat16) kLinearBfloat16 = nullptr;
#endif

}  // namespace
}  // namespace microinfer::networks
