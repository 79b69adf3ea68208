/// The encoder's loops beside its linear maps: layer norm and attention. Of the instruction set of whoever
/// includes it, see kernels_impl.hpp.
#pragma once

#include "kernels.hpp"
#include "kernels_vectors.hpp"

#include <cstdint>

namespace microinfer::networks {
namespace {

/// The sum of each(i) of every L-th i below `end`, L being the lanes of the vectors that it gives.
template <typename V, typename Each>
[[gnu::always_inline]] inline Element<V> sum_of_each(std::int64_t end, const Each& each) {
    constexpr std::int64_t chains = 4;  // additions that do not wait for each other
    V sums[chains] = {};
    std::int64_t i = 0;
    for (; i + chains * kLanesOf<V> <= end; i += chains * kLanesOf<V>) {
        for (std::int64_t k = 0; k < chains; ++k) {
            sums[k] += each(i + k * kLanesOf<V>);
        }
    }
    for (; i < end; i += kLanesOf<V>) {
        sums[0] += each(i);
    }
    return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename Real>
void layer_norm(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t width,
                const float* scale, const float* shift, float* y, std::int64_t y_stride) {
    using V = Full<Real>;
    const std::int64_t whole = width / kLanesOf<V> * kLanesOf<V>;
    const Real share = Real{1} / static_cast<Real>(width);
    for (std::int64_t r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        Real mean = sum_of_each<V>(whole, [x](std::int64_t i) { return load<V>(x + i); });
        for (std::int64_t i = whole; i < width; ++i) {
            mean += x[i];
        }
        mean *= share;
        Real variance = sum_of_each<V>(whole, [x, mean](std::int64_t i) {
            const V apart = load<V>(x + i) - mean;
            return apart * apart;
        });
        for (std::int64_t i = whole; i < width; ++i) {
            variance += (x[i] - mean) * (x[i] - mean);
        }
        const Real inverse = Real{1} / square_root(variance * share + Real(1e-5));
        for (std::int64_t i = 0; i < whole; i += kLanesOf<V>) {
            store(y + i, (load<V>(x + i) - mean) * (inverse * load<V>(scale + i)) + load<V>(shift + i));
        }
        for (std::int64_t i = whole; i < width; ++i) {
            y[i] = static_cast<float>((x[i] - mean) * (inverse * scale[i]) + shift[i]);
        }
    }
}

/// Turns a disk's vectors (channels, heads) by each channel pair's angle; `sign` is -1 to turn them back.
template <typename Real, typename From, typename To>
[[gnu::always_inline]] inline void turn(const From* x, const float* cosine, const float* sine, Real sign,
                                        Real factor, std::int64_t pairs, std::int64_t heads, To* y) {
    for (std::int64_t d = 0; d < pairs; ++d) {
        const Real c = factor * cosine[d];
        const Real s = sign * factor * sine[d];
        for (std::int64_t h = 0; h < heads; h += kHeadLanes) {
            const std::int64_t first = d * heads + h;
            const std::int64_t second = first + pairs * heads;
            const auto a = load<OfHeads<Real>>(x + first);
            const auto b = load<OfHeads<Real>>(x + second);
            store(y + first, a * c - b * s);
            store(y + second, a * s + b * c);
        }
    }
}

/// Scores of a query with `Keys` keys, for the heads of one vector.
template <int Keys, typename Real>
[[gnu::always_inline]] inline void score(const Real* query, const Real* keys, std::int64_t row,
                                         std::int64_t channels, std::int64_t heads, Real* scores) {
    OfHeads<Real> sum[Keys] = {};
    for (std::int64_t d = 0; d < channels; ++d) {
        const auto q = load<OfHeads<Real>>(query + d * heads);
        for (int j = 0; j < Keys; ++j) {
            sum[j] += q * load<OfHeads<Real>>(keys + j * row + d * heads);
        }
    }
    for (int j = 0; j < Keys; ++j) {
        store(scores + j * heads, sum[j]);
    }
}

/// `Channels` channels of the values' weighted sum, for the heads of one vector.
template <int Channels, typename Real>
[[gnu::always_inline]] inline void weigh(const Real* values, std::int64_t row, std::int64_t length,
                                         std::int64_t heads, const Real* weight, OfHeads<Real> norm,
                                         Real* out) {
    OfHeads<Real> sum[Channels] = {};
    for (std::int64_t j = 0; j < length; ++j) {
        const auto w = load<OfHeads<Real>>(weight + j * heads);
        for (int d = 0; d < Channels; ++d) {
            sum[d] += w * load<OfHeads<Real>>(values + j * row + d * heads);
        }
    }
    for (int d = 0; d < Channels; ++d) {
        store(out + d * heads, norm * sum[d]);
    }
}

template <typename Real>
void attend(const AttentionView& view) {
    const std::int64_t heads = view.heads;
    const std::int64_t channels = view.channels;
    const std::int64_t pairs = channels / 2;
    const std::int64_t part = channels * heads;
    const std::int64_t row = 3 * part;
    const Real one{1};
    const Real scale = one / square_root(static_cast<Real>(channels));
    Real* const turned = static_cast<Real*>(view.scratch);  // (length, 3, channels, heads)
    Real* const score_rows = turned + view.length * row;    // (length, heads)
    Real* const result = score_rows + view.length * heads;  // (channels, heads)
    for (std::int64_t i = 0; i < view.length; ++i) {
        const float* const cosine = view.cosine + i * pairs;
        const float* const sine = view.sine + i * pairs;
        const float* const x = view.qkv + i * view.row;
        Real* const y = turned + i * row;
        turn(x, cosine, sine, one, scale, pairs, heads, y);
        turn(x + part, cosine, sine, one, one, pairs, heads, y + part);
        turn(x + 2 * part, cosine, sine, one, one, pairs, heads, y + 2 * part);
    }
    for (std::int64_t i = 0; i < view.length; ++i) {
        for (std::int64_t h = 0; h < heads; h += kHeadLanes) {
            const Real* const query = turned + i * row + h;
            const Real* const keys = turned + part + h;
            const Real* const values = turned + 2 * part + h;
            Real* const scores = score_rows + h;
            std::int64_t j = 0;
            for (; j + 8 <= view.length; j += 8) {
                score<8>(query, keys + j * row, row, channels, heads, scores + j * heads);
            }
            for (; j + 4 <= view.length; j += 4) {
                score<4>(query, keys + j * row, row, channels, heads, scores + j * heads);
            }
            for (; j < view.length; ++j) {
                score<1>(query, keys + j * row, row, channels, heads, scores + j * heads);
            }
            auto most = load<OfHeads<Real>>(scores);
            for (j = 1; j < view.length; ++j) {
                most = larger(most, load<OfHeads<Real>>(scores + j * heads));
            }
            OfHeads<Real> total{};
            for (j = 0; j < view.length; ++j) {
                const auto e = exponential(load<OfHeads<Real>>(scores + j * heads) - most);
                store(scores + j * heads, e);
                total += e;
            }
            const OfHeads<Real> norm = one / total;
            std::int64_t d = 0;
            for (; d + 8 <= channels; d += 8) {
                weigh<8>(values + d * heads, row, view.length, heads, scores, norm, result + d * heads + h);
            }
            for (; d < channels; ++d) {
                weigh<1>(values + d * heads, row, view.length, heads, scores, norm, result + d * heads + h);
            }
        }
        turn(result, view.cosine + i * pairs, view.sine + i * pairs, -one, one, pairs, heads,
             view.out + i * part);
    }
}

}  // namespace
}  // namespace microinfer::networks
