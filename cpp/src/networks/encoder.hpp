/// The transformer blocks that every model has.
#pragma once

#include "block.hpp"

#include <microinfer/network.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace microinfer::networks {

constexpr std::int64_t kPatterns = 16;  // of a block: their features stay in the cache from layer to layer

/// Uninitialised memory.
std::unique_ptr<float[]> buffer(std::int64_t elements);

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

/// A stack of pre-norm transformer blocks with rotary attention.
class Encoder {
  public:
    Encoder(const Kernels& kernels, Numbers numbers, const BlockWeights* blocks, std::int64_t count,
            std::int64_t width, std::int64_t heads);

    /// Channel pairs of a head.
    [[nodiscard]] std::int64_t pairs() const { return heads_.channels / 2; }

    /// Room for the features of patterns that have `count[i]` disks each.
    [[nodiscard]] DiskFeatures features(const std::int32_t* count, std::int64_t patterns) const;

    /// Applies the blocks to x.
    void operator()(DiskFeatures& f) const;

  private:
    const Kernels& kernels_;
    const Between& between_;
    std::int64_t width_;
    Heads heads_;
    std::vector<Block> blocks_;
};

}  // namespace microinfer::networks
