/// The loops of `Kernels` on vectors of MICROINFER_LANES floats. Included by one source file for each
/// instruction set, which is compiled for it; so nothing here calls an inline function that other files
/// compile too.
#include "kernels.hpp"

#ifdef MICROINFER_BFLOAT16
#include <immintrin.h>
#endif

namespace microinfer::networks {
namespace {

constexpr std::int64_t kLanes = MICROINFER_LANES;
constexpr std::int64_t kPanel = 2 * kLanes;
constexpr int kRows = MICROINFER_LANES == 16 ? 12 : 6;  // the sums of a tile fill the registers
constexpr std::int64_t kHeadLanes = MICROINFER_LANES < 8 ? MICROINFER_LANES : 8;

template <std::int64_t Lanes>
struct Simd {
    typedef float Vector __attribute__((vector_size(4 * Lanes)));
    typedef std::int32_t Integers __attribute__((vector_size(4 * Lanes)));
    typedef float Unaligned __attribute__((vector_size(4 * Lanes), aligned(4), may_alias));
};
using Vector = Simd<kLanes>::Vector;
using HeadVector = Simd<kHeadLanes>::Vector;

template <typename V>
[[gnu::always_inline]] inline V load(const float* p) {
    return *reinterpret_cast<const typename Simd<sizeof(V) / 4>::Unaligned*>(p);
}

template <typename V>
[[gnu::always_inline]] inline void store(float* p, V v) {
    *reinterpret_cast<typename Simd<sizeof(V) / 4>::Unaligned*>(p) = v;
}

template <typename V>
[[gnu::always_inline]] inline float sum_of(V v) {
    float sum = 0.0F;
    for (std::size_t i = 0; i < sizeof(V) / 4; ++i) {
        sum += v[i];
    }
    return sum;
}

template <typename V>
[[gnu::always_inline]] inline V larger(V a, V b) {
    return a > b ? a : b;
}

template <typename V>
[[gnu::always_inline]] inline float largest_of(V v) {
    float largest = v[0];
    for (std::size_t i = 1; i < sizeof(V) / 4; ++i) {
        largest = v[i] > largest ? v[i] : largest;
    }
    return largest;
}

/// exp(x) to float rounding; what is below exp(-87) becomes exp(-87). After Cephes (Moshier).
template <typename V>
[[gnu::always_inline]] inline V exponential(V x) {
    using Integers = typename Simd<sizeof(V) / 4>::Integers;
    constexpr float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
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
    const Integers exponent = (reinterpret_cast<Integers>(shifted) << 23) + 0x3f800000;
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

template <int Rows, typename Number>
[[gnu::always_inline]] inline void tile(const Number* x, std::int64_t x_stride, const Number* weight,
                                        const float* bias, std::int64_t inputs, float* y,
                                        std::int64_t y_stride, Epilogue epilogue) {
    constexpr std::int64_t together = sizeof(float) / sizeof(Number);  // inputs of one step
    Vector sum[Rows][2];
    for (int r = 0; r < Rows; ++r) {
        sum[r][0] = load<Vector>(bias);
        sum[r][1] = load<Vector>(bias + kLanes);
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
    for (int r = 0; r < Rows; ++r) {
        for (int half = 0; half < 2; ++half) {
            float* const to = y + r * y_stride + half * kLanes;
            if (epilogue == Epilogue::gelu) {
                store(to, gelu(sum[r][half]));
            } else if (epilogue == Epilogue::add) {
                store(to, load<Vector>(to) + sum[r][half]);
            } else {
                store(to, sum[r][half]);
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
void round(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t inputs, Bfloat16* y,
           std::int64_t y_stride) {
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < inputs; i += kLanes) {
            const std::int64_t left = inputs - i;
            const auto present = static_cast<__mmask16>(left < kLanes ? (1 << left) - 1 : 0xffff);
            const __m256bh halves = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(present, x + r * x_stride + i));
            _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(y + r * y_stride + i),
                                reinterpret_cast<__m256i>(halves));
        }
    }
}
constexpr auto kRound = round;
constexpr auto kLinearBfloat16 = linear<Bfloat16>;
#else
constexpr decltype(Kernels::round) kRound = nullptr;
constexpr decltype(Kernels::linear_bfloat16) kLinearBfloat16 = nullptr;
#endif

void layer_norm(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t width,
                const float* scale, const float* shift, float* y, std::int64_t y_stride) {
    const std::int64_t whole = width / kLanes * kLanes;
    const float share = 1.0F / static_cast<float>(width);
    for (std::int64_t r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        Vector sums{};
        for (std::int64_t i = 0; i < whole; i += kLanes) {
            sums += load<Vector>(x + i);
        }
        float mean = sum_of(sums);
        for (std::int64_t i = whole; i < width; ++i) {
            mean += x[i];
        }
        mean *= share;
        Vector squares{};
        for (std::int64_t i = 0; i < whole; i += kLanes) {
            const Vector apart = load<Vector>(x + i) - mean;
            squares += apart * apart;
        }
        float variance = sum_of(squares);
        for (std::int64_t i = whole; i < width; ++i) {
            variance += (x[i] - mean) * (x[i] - mean);
        }
        const float inverse = 1.0F / __builtin_sqrtf(variance * share + 1e-5F);
        for (std::int64_t i = 0; i < whole; i += kLanes) {
            store(y + i, (load<Vector>(x + i) - mean) * (inverse * load<Vector>(scale + i)) +
                             load<Vector>(shift + i));
        }
        for (std::int64_t i = whole; i < width; ++i) {
            y[i] = (x[i] - mean) * (inverse * scale[i]) + shift[i];
        }
    }
}

/// Turns a pattern's vectors (channels, heads) by each channel pair's angle; `sign` is -1 to turn them back.
[[gnu::always_inline]] inline void turn(float* x, const float* cosine, const float* sine, float sign,
                                        float factor, std::int64_t pairs, std::int64_t heads) {
    for (std::int64_t d = 0; d < pairs; ++d) {
        const float c = factor * cosine[d];
        const float s = sign * factor * sine[d];
        for (std::int64_t h = 0; h < heads; h += kHeadLanes) {
            float* const first = x + d * heads + h;
            float* const second = first + pairs * heads;
            const HeadVector a = load<HeadVector>(first);
            const HeadVector b = load<HeadVector>(second);
            store(first, a * c - b * s);
            store(second, a * s + b * c);
        }
    }
}

/// Scores of a query with `Keys` keys, for the heads of one vector.
template <int Keys>
[[gnu::always_inline]] inline void score(const float* query, const float* keys, std::int64_t row,
                                         std::int64_t channels, std::int64_t heads, float* scores) {
    HeadVector sum[Keys] = {};
    for (std::int64_t d = 0; d < channels; ++d) {
        const HeadVector q = load<HeadVector>(query + d * heads);
        for (int j = 0; j < Keys; ++j) {
            sum[j] += q * load<HeadVector>(keys + j * row + d * heads);
        }
    }
    for (int j = 0; j < Keys; ++j) {
        store(scores + j * heads, sum[j]);
    }
}

/// `Channels` channels of the values' weighted sum, for the heads of one vector.
template <int Channels>
[[gnu::always_inline]] inline void weigh(const float* values, std::int64_t row, std::int64_t length,
                                         std::int64_t heads, const float* weight, HeadVector norm,
                                         float* out) {
    HeadVector sum[Channels] = {};
    for (std::int64_t j = 0; j < length; ++j) {
        const HeadVector w = load<HeadVector>(weight + j * heads);
        for (int d = 0; d < Channels; ++d) {
            sum[d] += w * load<HeadVector>(values + j * row + d * heads);
        }
    }
    for (int d = 0; d < Channels; ++d) {
        store(out + d * heads, norm * sum[d]);
    }
}

void attend(const AttentionView& view) {
    const std::int64_t heads = view.heads;
    const std::int64_t channels = view.channels;
    const std::int64_t pairs = channels / 2;
    const std::int64_t part = channels * heads;
    const std::int64_t row = view.row;
    const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(channels));
    for (std::int64_t i = 0; i < view.length; ++i) {
        const float* const cosine = view.cosine + i * pairs;
        const float* const sine = view.sine + i * pairs;
        float* const x = view.qkv + i * row;
        turn(x, cosine, sine, 1.0F, scale, pairs, heads);
        turn(x + part, cosine, sine, 1.0F, 1.0F, pairs, heads);
        turn(x + 2 * part, cosine, sine, 1.0F, 1.0F, pairs, heads);
    }
    for (std::int64_t i = 0; i < view.length; ++i) {
        float* const out = view.out + i * part;
        for (std::int64_t h = 0; h < heads; h += kHeadLanes) {
            const float* const query = view.qkv + i * row + h;
            const float* const keys = view.qkv + part + h;
            const float* const values = view.qkv + 2 * part + h;
            float* const scores = view.scores + h;
            std::int64_t j = 0;
            for (; j + 4 <= view.length; j += 4) {
                score<4>(query, keys + j * row, row, channels, heads, scores + j * heads);
            }
            for (; j < view.length; ++j) {
                score<1>(query, keys + j * row, row, channels, heads, scores + j * heads);
            }
            HeadVector most = load<HeadVector>(scores);
            for (j = 1; j < view.length; ++j) {
                const HeadVector s = load<HeadVector>(scores + j * heads);
                most = larger(most, s);
            }
            HeadVector total{};
            for (j = 0; j < view.length; ++j) {
                const HeadVector e = exponential(load<HeadVector>(scores + j * heads) - most);
                store(scores + j * heads, e);
                total += e;
            }
            const HeadVector norm = 1.0F / total;
            std::int64_t d = 0;
            for (; d + 8 <= channels; d += 8) {
                weigh<8>(values + d * heads, row, view.length, heads, scores, norm, out + d * heads + h);
            }
            for (; d < channels; ++d) {
                weigh<1>(values + d * heads, row, view.length, heads, scores, norm, out + d * heads + h);
            }
        }
        turn(out, view.cosine + i * pairs, view.sine + i * pairs, -1.0F, 1.0F, pairs, heads);
    }
}

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

extern const Kernels MICROINFER_KERNELS;
const Kernels MICROINFER_KERNELS = {MICROINFER_NAME, kPanel,      kHeadLanes,  linear<float>, kRound,
                                    kLinearBfloat16, layer_norm,  attend,      sum_rows,      highest,
                                    next_above,      log_sum_exp, complex_dot, nearest};

}  // namespace microinfer::networks
