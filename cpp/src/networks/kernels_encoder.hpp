/// The encoder's loops beside its linear maps: layer norm and attention. Of the instruction set of whoever
/// includes it, see kernels_impl.hpp.
#pragma once

#include "kernels.hpp"
#include "kernels_vectors.hpp"

#include <cstdint>

namespace microinfer::networks {
namespace {

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

}  // namespace
}  // namespace microinfer::networks
