/// The encoder's loops beside its linear maps: layer norm and attention. Of the instruction set of whoever
/// includes it, see kernels_impl.hpp.
#pragma once

#include "kernels.hpp"
#include "kernels_vectors.hpp"

#include <cstdint>

namespace microinfer::networks {
namespace {

/// The sum of the vectors each(i) for every kLanes-th i below `end`.
template <typename Each>
[[gnu::always_inline]] inline float sum_of_each(std::int64_t end, const Each& each) {
    constexpr std::int64_t chains = 4;  // additions that do not wait for each other
    Vector sums[chains] = {};
    std::int64_t i = 0;
    for (; i + chains * kLanes <= end; i += chains * kLanes) {
        for (std::int64_t k = 0; k < chains; ++k) {
            sums[k] += each(i + k * kLanes);
        }
    }
    for (; i < end; i += kLanes) {
        sums[0] += each(i);
    }
    return sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

void layer_norm(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t width,
                const float* scale, const float* shift, float* y, std::int64_t y_stride) {
    const std::int64_t whole = width / kLanes * kLanes;
    const float share = 1.0F / static_cast<float>(width);
    for (std::int64_t r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        float mean = sum_of_each(whole, [x](std::int64_t i) { return load<Vector>(x + i); });
        for (std::int64_t i = whole; i < width; ++i) {
            mean += x[i];
        }
        mean *= share;
        float variance = sum_of_each(whole, [x, mean](std::int64_t i) {
            const Vector apart = load<Vector>(x + i) - mean;
            return apart * apart;
        });
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

/// Turns a disk's vectors (channels, heads) by each channel pair's angle; `sign` is -1 to turn them back.
[[gnu::always_inline]] inline void turn(const float* x, const float* cosine, const float* sine, float sign,
                                        float factor, std::int64_t pairs, std::int64_t heads, float* y) {
    for (std::int64_t d = 0; d < pairs; ++d) {
        const float c = factor * cosine[d];
        const float s = sign * factor * sine[d];
        for (std::int64_t h = 0; h < heads; h += kHeadLanes) {
            const std::int64_t first = d * heads + h;
            const std::int64_t second = first + pairs * heads;
            const auto a = load<OfHeads>(x + first);
            const auto b = load<OfHeads>(x + second);
            store(y + first, a * c - b * s);
            store(y + second, a * s + b * c);
        }
    }
}

/// Scores of a query with `Keys` keys, for the heads of one vector.
template <int Keys>
[[gnu::always_inline]] inline void score(const float* query, const float* keys, std::int64_t row,
                                         std::int64_t channels, std::int64_t heads, float* scores) {
    OfHeads sum[Keys] = {};
    for (std::int64_t d = 0; d < channels; ++d) {
        const auto q = load<OfHeads>(query + d * heads);
        for (int j = 0; j < Keys; ++j) {
            sum[j] += q * load<OfHeads>(keys + j * row + d * heads);
        }
    }
    for (int j = 0; j < Keys; ++j) {
        store(scores + j * heads, sum[j]);
    }
}

/// `Channels` channels of the values' weighted sum, for the heads of one vector.
template <int Channels>
[[gnu::always_inline]] inline void weigh(const float* values, std::int64_t row, std::int64_t length,
                                         std::int64_t heads, const float* weight, OfHeads norm, float* out) {
    OfHeads sum[Channels] = {};
    for (std::int64_t j = 0; j < length; ++j) {
        const auto w = load<OfHeads>(weight + j * heads);
        for (int d = 0; d < Channels; ++d) {
            sum[d] += w * load<OfHeads>(values + j * row + d * heads);
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
    const std::int64_t row = 3 * part;
    const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(channels));
    float* const turned = view.scratch;                      // (length, 3, channels, heads)
    float* const score_rows = turned + view.length * row;    // (length, heads)
    float* const result = score_rows + view.length * heads;  // (channels, heads)
    for (std::int64_t i = 0; i < view.length; ++i) {
        const float* const cosine = view.cosine + i * pairs;
        const float* const sine = view.sine + i * pairs;
        const float* const x = view.qkv + i * view.row;
        float* const y = turned + i * row;
        turn(x, cosine, sine, 1.0F, scale, pairs, heads, y);
        turn(x + part, cosine, sine, 1.0F, 1.0F, pairs, heads, y + part);
        turn(x + 2 * part, cosine, sine, 1.0F, 1.0F, pairs, heads, y + 2 * part);
    }
    for (std::int64_t i = 0; i < view.length; ++i) {
        for (std::int64_t h = 0; h < heads; h += kHeadLanes) {
            const float* const query = turned + i * row + h;
            const float* const keys = turned + part + h;
            const float* const values = turned + 2 * part + h;
            float* const scores = score_rows + h;
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
            auto most = load<OfHeads>(scores);
            for (j = 1; j < view.length; ++j) {
                most = larger(most, load<OfHeads>(scores + j * heads));
            }
            OfHeads total{};
            for (j = 0; j < view.length; ++j) {
                const auto e = exponential(load<OfHeads>(scores + j * heads) - most);
                store(scores + j * heads, e);
                total += e;
            }
            const OfHeads norm = 1.0F / total;
            std::int64_t d = 0;
            for (; d + 8 <= channels; d += 8) {
                weigh<8>(values + d * heads, row, view.length, heads, scores, norm, result + d * heads + h);
            }
            for (; d < channels; ++d) {
                weigh<1>(values + d * heads, row, view.length, heads, scores, norm, result + d * heads + h);
            }
        }
        turn(result, view.cosine + i * pairs, view.sine + i * pairs, -1.0F, 1.0F, pairs, heads,
             view.out + i * part);
    }
}

}  // namespace
}  // namespace microinfer::networks
