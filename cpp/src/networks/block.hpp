/// The weights of an encoder block, packed: its heads lie beside each other.
#pragma once

#include "kernels.hpp"
#include "linear.hpp"

#include <microinfer/network.hpp>

#include <cstdint>
#include <vector>

namespace microinfer::networks {

/// A layer norm; owns its weights.
struct LayerNorm {
    const Between* between;
    std::vector<float> scale;
    std::vector<float> shift;

    LayerNorm(const Between& loops, const LayerNormWeights& of, std::int64_t width)
        : between(&loops), scale(of.scale, of.scale + width), shift(of.shift, of.shift + width) {}

    void operator()(const float* x, std::int64_t x_stride, std::int64_t rows, float* y,
                    std::int64_t y_stride) const {
        between->layer_norm(x, x_stride, rows, static_cast<std::int64_t>(scale.size()), scale.data(),
                            shift.data(), y, y_stride);
    }
};

/// The shape of a block's attention: its heads lie beside each other, filled up to whole vectors.
struct Heads {
    std::int64_t heads;
    std::int64_t channels;
    std::int64_t lanes;  // heads, filled up

    Heads(const Kernels& kernels, std::int64_t width, std::int64_t count)
        : heads(count), channels(width / count), lanes(padded(count, kernels.head_lanes)) {}

    [[nodiscard]] std::int64_t part() const { return channels * lanes; }

    /// The model's index of an element of queries, keys, values or of the result; -1 in the filling.
    [[nodiscard]] std::int64_t index(std::int64_t element) const {
        const std::int64_t head = element % lanes;
        const std::int64_t channel = element / lanes % channels;
        const std::int64_t which = element / part();
        return head < heads ? (which * heads + head) * channels + channel : -1;
    }
};

/// An encoder block.
struct Block {
    LayerNorm norm1;
    Linear qkv;
    Linear out;
    LayerNorm norm2;
    Linear up;
    Linear down;

    Block(const Kernels& kernels, Numbers numbers, const BlockWeights& of, std::int64_t width,
          const Heads& heads)
        : norm1(kernels.between(numbers), of.norm1, width),
          qkv(
              kernels, numbers, 3 * heads.part(), width,
              [&](std::int64_t o, std::int64_t i) {
                  const std::int64_t row = heads.index(o);
                  return row < 0 ? 0.0F : of.qkv.weight[row * width + i];
              },
              [&](std::int64_t o) { return heads.index(o) < 0 ? 0.0F : of.qkv.bias[heads.index(o)]; }),
          out(
              kernels, numbers, width, heads.part(),
              [&](std::int64_t o, std::int64_t i) {
                  const std::int64_t column = heads.index(i);
                  return column < 0 ? 0.0F : of.out.weight[o * width + column];
              },
              [&](std::int64_t o) { return of.out.bias[o]; }),
          norm2(kernels.between(numbers), of.norm2, width),
          up(kernels, numbers, of.up),
          down(kernels, numbers, of.down) {}
};

}  // namespace microinfer::networks
