/// The table of `Transforms` on vectors of MICROINFER_LANES floats. Included by one source file for each
/// instruction set, which is compiled for it; so nothing here calls an inline function that other files
/// compile too.
#include "transform.hpp"

namespace microinfer::detection {

extern const Transforms MICROINFER_TRANSFORMS;

namespace {

using Lanes = float __attribute__((vector_size(4 * MICROINFER_LANES)));
constexpr std::int64_t kVectors = kPanel / MICROINFER_LANES;  // of a panel's row

using Mask = std::int32_t __attribute__((vector_size(4 * MICROINFER_LANES)));

inline Lanes load(const float* from) {
    Lanes values;
    __builtin_memcpy(&values, from, sizeof values);
    return values;
}
inline void store(const Lanes& values, float* to) {
    __builtin_memcpy(to, &values, sizeof values);
}
inline bool any(const Mask& mask) {
    std::int32_t bits = 0;
    for (std::int64_t lane = 0; lane < MICROINFER_LANES; ++lane) {
        bits |= mask[lane];
    }
    return bits != 0;
}

/// Complex numbers, one for each lane.
struct Complex {
    Lanes re, im;
};

inline Complex load(const float* re, const float* im) {
    return {load(re), load(im)};
}
inline Complex operator+(const Complex& a, const Complex& b) {
    return {a.re + b.re, a.im + b.im};
}
inline Complex operator-(const Complex& a, const Complex& b) {
    return {a.re - b.re, a.im - b.im};
}
inline Complex operator*(const Complex& a, const Complex& b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
inline Complex times(const Complex& a, float re, float im) {
    return {a.re * re - a.im * im, a.re * im + a.im * re};
}
inline Complex scaled(const Complex& a, float by) {
    return {a.re * by, a.im * by};
}
/// -i times a.
inline Complex turned(const Complex& a) {
    return {a.im, -a.re};
}

/// The transform of `radix` numbers, in place.
template <int radix>
inline void small_transform(Complex* x) {
    if constexpr (radix == 2) {
        const Complex a = x[0];
        x[0] = a + x[1];
        x[1] = a - x[1];
    } else if constexpr (radix == 3) {
        const Complex sum = x[1] + x[2];
        const Complex turn = turned(scaled(x[1] - x[2], 0.866025403784438647F));
        const Complex mean = x[0] - scaled(sum, 0.5F);
        x[0] = x[0] + sum;
        x[1] = mean + turn;
        x[2] = mean - turn;
    } else if constexpr (radix == 4) {
        const Complex a = x[0] + x[2];
        const Complex b = x[0] - x[2];
        const Complex c = x[1] + x[3];
        const Complex d = turned(x[1] - x[3]);
        x[0] = a + c;
        x[1] = b + d;
        x[2] = a - c;
        x[3] = b - d;
    } else {
        static_assert(radix == 5);
        constexpr float c1 = 0.309016994374947424F;
        constexpr float c2 = -0.809016994374947424F;
        constexpr float s1 = 0.951056516295153572F;
        constexpr float s2 = 0.587785252292473129F;
        const Complex a = x[1] + x[4];
        const Complex b = x[2] + x[3];
        const Complex c = x[1] - x[4];
        const Complex d = x[2] - x[3];
        const Complex m1 = x[0] + scaled(a, c1) + scaled(b, c2);
        const Complex m2 = x[0] + scaled(a, c2) + scaled(b, c1);
        const Complex t1 = turned(scaled(c, s1) + scaled(d, s2));
        const Complex t2 = turned(scaled(c, s2) - scaled(d, s1));
        x[0] = x[0] + a + b;
        x[1] = m1 + t1;
        x[2] = m2 + t2;
        x[3] = m2 - t2;
        x[4] = m1 - t1;
    }
}

/// Joins `radix` transforms of length `done` each into one, for every column and every remaining index;
/// Stockham's order, so that the last pass leaves the numbers in their natural order.
template <int radix>
void pass(std::int64_t length, std::int64_t done, const float* twiddle, const Panel& panel) {
    const auto* const in_re = reinterpret_cast<const Lanes*>(panel.re);
    const auto* const in_im = reinterpret_cast<const Lanes*>(panel.im);
    auto* const out_re = reinterpret_cast<Lanes*>(panel.other_re);
    auto* const out_im = reinterpret_cast<Lanes*>(panel.other_im);
    const std::int64_t rest = length / (done * radix) * kVectors;
    for (std::int64_t j = 0; j < done; ++j) {
        const std::int64_t in = j * radix * rest;
        const std::int64_t out = j * rest;
        for (std::int64_t k = 0; k < rest; ++k) {
            Complex x[radix];
            x[0] = {in_re[in + k], in_im[in + k]};
            for (int q = 1; q < radix; ++q) {
                const std::int64_t at = in + q * rest + k;
                x[q] = times({in_re[at], in_im[at]}, twiddle[2 * q - 2], twiddle[2 * q - 1]);
            }
            small_transform<radix>(x);
            for (int p = 0; p < radix; ++p) {
                out_re[out + p * done * rest + k] = x[p].re;
                out_im[out + p * done * rest + k] = x[p].im;
            }
        }
        twiddle += 2 * (radix - 1);
    }
}

void columns(const Plan& plan, Panel& panel) {
    const float* twiddle = plan.twiddles.data();
    const std::int32_t* radix = plan.radices.data();
    for (std::int64_t done = 1; done < plan.length; done *= *radix++) {
        switch (*radix) {
            case 2:
                pass<2>(plan.length, done, twiddle, panel);
                break;
            case 3:
                pass<3>(plan.length, done, twiddle, panel);
                break;
            case 4:
                pass<4>(plan.length, done, twiddle, panel);
                break;
            default:
                pass<5>(plan.length, done, twiddle, panel);
        }
        twiddle += 2 * (*radix - 1) * done;
        panel = {panel.other_re, panel.other_im, panel.re, panel.im};
    }
}

void multiply(const Panel& panel, const float* kernel_re, const float* kernel_im, std::int64_t stride,
              std::int64_t rows) {
    for (std::int64_t row = 0; row < rows; ++row) {
        float* const re = panel.re + row * kPanel;
        float* const im = panel.im + row * kPanel;
        const float* const by_re = kernel_re + row * stride;
        const float* const by_im = kernel_im + row * stride;
        for (std::int64_t i = 0; i < kPanel; i += MICROINFER_LANES) {
            const Complex product = load(re + i, im + i) * load(by_re + i, by_im + i);
            store(product.re, re + i);
            store(product.im, im + i);
        }
    }
}

void copy(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride, std::int64_t rows) {
    for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t i = 0; i < kPanel; i += MICROINFER_LANES) {
            store(load(from + row * from_stride + i), to + row * to_stride + i);
        }
    }
}

void transpose(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride) {
    for (std::int64_t i = 0; i < kPanel; ++i) {
        for (std::int64_t j = 0; j < kPanel; ++j) {
            to[i * to_stride + j] = from[j * from_stride + i];
        }
    }
}

float sum_spans(const float* first, std::int64_t stride, const Span* spans, std::int64_t rows) {
    Mask lane;
    for (std::int32_t i = 0; i < MICROINFER_LANES; ++i) {
        lane[i] = i;
    }
    Lanes sum = {};
    for (std::int64_t row = 0; row < rows; ++row) {
        const float* const at = first + row * stride;
        for (std::int32_t i = spans[row].begin; i < spans[row].end; i += MICROINFER_LANES) {
            sum += lane + i < spans[row].end ? load(at + i) : Lanes{};
        }
    }
    float total = 0.0F;
    for (std::int32_t i = 0; i < MICROINFER_LANES; ++i) {
        total += sum[i];
    }
    return total;
}

std::uint32_t maxima(const float* first, std::int64_t stride, const float* floors) {
    std::uint32_t bits = 0;
    for (std::int64_t i = 0; i < kPanel; i += MICROINFER_LANES) {
        const float* const at = first + i;
        const Lanes value = load(at);
        Mask holds = value > load(floors + i);
        if (!any(holds)) {
            continue;
        }
        for (const std::int64_t before : {-stride - 1, -stride, -stride + 1, std::int64_t{-1}}) {
            holds &= value > load(at + before);
            holds &= value >= load(at - before);
        }
        for (std::int64_t lane = 0; lane < MICROINFER_LANES; ++lane) {
            bits |= static_cast<std::uint32_t>(holds[lane] != 0) << (i + lane);
        }
    }
    return bits;
}

}  // namespace

const Transforms MICROINFER_TRANSFORMS = {MICROINFER_NAME, columns,   multiply, copy,
                                          transpose,       sum_spans, maxima};

}  // namespace microinfer::detection
