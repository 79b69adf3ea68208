/// The transformer blocks that every model has.
#pragma once

#include "layers.hpp"
#include "network.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace microinfer::networks {

/// The disks of some patterns, one after the other, and their features.
struct DiskFeatures {
    std::int64_t patterns;
    std::vector<std::int64_t> first;  // disk of each pattern, and the end
    std::int64_t disks;
    std::int64_t stride;              // of x
    std::int64_t normed_stride;       // of normed: room for one column more than x has
    std::unique_ptr<float[]> x;       // (disks, width)
    std::unique_ptr<float[]> normed;  // (disks, width + 1)
    std::unique_ptr<float[]> cosine;  // (disks, pairs) of the angle that turns each channel pair of a head
    std::unique_ptr<float[]> sine;

    [[nodiscard]] std::int64_t length(std::int64_t pattern) const {
        return first[size(pattern + 1)] - first[size(pattern)];
    }
};

/// The shape of a block's attention: its heads lie beside each other, filled up to whole vectors.
struct Heads {
    std::int64_t heads;
    std::int64_t channels;
    std::int64_t lanes;  // heads, filled up

    [[nodiscard]] std::int64_t part() const { return channels * lanes; }

    /// The model's index of an element of queries, keys, values or of the result; -1 in the filling.
    [[nodiscard]] std::int64_t index(std::int64_t element) const {
        const std::int64_t head = element % lanes;
        const std::int64_t channel = element / lanes % channels;
        const std::int64_t which = element / part();
        return head < heads ? (which * heads + head) * channels + channel : -1;
    }
};

/// A pre-norm transformer block.
struct Block {
    LayerNorm norm1;
    Linear qkv;
    Linear out;
    LayerNorm norm2;
    Linear up;
    Linear down;
};

/// A stack of blocks with rotary attention.
class Encoder {
  public:
    /// Takes the arrays of the blocks; std::invalid_argument for heads that do not divide the width.
    Encoder(const Layers& layers, const NetworkConfig& config);

    /// Channel pairs of a head.
    [[nodiscard]] std::int64_t pairs() const { return heads_.channels / 2; }

    /// Room for the features of patterns that have `count[i]` disks each.
    [[nodiscard]] DiskFeatures features(const std::int32_t* count, std::int64_t patterns) const;

    /// Applies the blocks to x.
    void operator()(DiskFeatures& f) const;

  private:
    const Kernels& kernels_;
    std::int64_t width_;
    Heads heads_;
    std::vector<Block> blocks_;
};

}  // namespace microinfer::networks
