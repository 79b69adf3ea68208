#include "encoder.hpp"

#include <algorithm>
#include <string>

namespace microinfer::networks {

namespace {

/// The queries, keys and values of a block, laid out by `heads`.
Linear qkv_of(const Layers& layers, const std::string& name, std::int64_t width, const Heads& heads) {
    const float* const weight = layers.arrays.take<float>(name + ".weight", {3 * width, width});
    const float* const bias = layers.arrays.take<float>(name + ".bias", {3 * width});
    return {layers.kernels,
            layers.numbers,
            3 * heads.part(),
            width,
            [&](std::int64_t o, std::int64_t i) {
                const std::int64_t row = heads.index(o);
                return row < 0 ? 0.0F : weight[row * width + i];
            },
            [&](std::int64_t o) { return heads.index(o) < 0 ? 0.0F : bias[heads.index(o)]; }};
}

/// What follows attention, its inputs laid out by `heads`.
Linear out_of(const Layers& layers, const std::string& name, std::int64_t width, const Heads& heads) {
    const float* const weight = layers.arrays.take<float>(name + ".weight", {width, width});
    const float* const bias = layers.arrays.take<float>(name + ".bias", {width});
    return {layers.kernels,
            layers.numbers,
            width,
            heads.part(),
            [&](std::int64_t o, std::int64_t i) {
                const std::int64_t column = heads.index(i);
                return column < 0 ? 0.0F : weight[o * width + column];
            },
            [&](std::int64_t o) { return bias[o]; }};
}

Heads heads_of(const Kernels& kernels, std::int64_t width, std::int64_t heads) {
    require(heads >= 1 && heads <= width && width % (2 * heads) == 0,
            "the width " + std::to_string(width) + " must be a multiple of twice the heads, got " +
                std::to_string(heads));
    return {heads, width / heads, padded(heads, kernels.head_lanes)};
}

}  // namespace

Encoder::Encoder(const Layers& layers, const NetworkConfig& config)
    : kernels_(layers.kernels),
      width_(config.width),
      heads_(heads_of(layers.kernels, config.width, config.heads)) {
    for (std::int64_t i = 0; i < config.blocks; ++i) {
        const std::string name = "blocks." + std::to_string(i);
        blocks_.push_back({layers.layer_norm(name + ".norm1", width_),
                           qkv_of(layers, name + ".attention.qkv", width_, heads_),
                           out_of(layers, name + ".attention.out", width_, heads_),
                           layers.layer_norm(name + ".norm2", width_),
                           layers.linear(name + ".feed_forward.0", 2 * width_, width_),
                           layers.linear(name + ".feed_forward.2", width_, 2 * width_)});
    }
}

DiskFeatures Encoder::features(const std::int32_t* count, std::int64_t patterns) const {
    DiskFeatures f;
    f.patterns = patterns;
    f.first.push_back(0);
    for (std::int64_t p = 0; p < patterns; ++p) {
        f.first.push_back(f.first.back() + count[p]);
    }
    f.disks = f.first.back();
    f.stride = padded(width_, kernels_.panel);
    f.normed_stride = padded(width_ + 1, kernels_.panel);
    f.x = buffer(f.disks * f.stride);
    f.normed = buffer(f.disks * f.normed_stride);
    f.cosine = buffer(f.disks * pairs());
    f.sine = buffer(f.disks * pairs());
    return f;
}

void Encoder::operator()(DiskFeatures& f) const {
    if (blocks_.empty()) {
        return;
    }
    const std::int64_t row = blocks_[0].qkv.columns();
    const std::int64_t wide = blocks_[0].up.columns();
    std::int64_t longest = 0;
    for (std::int64_t p = 0; p < f.patterns; ++p) {
        longest = std::max(longest, f.length(p));
    }
    const auto qkv = buffer(f.disks * std::max(row, wide));
    const auto attended = buffer(f.disks * heads_.part());
    const auto scratch = buffer(AttentionView::numbers(longest, heads_.channels, heads_.lanes));
    for (const Block& block : blocks_) {
        block.norm1(f.x.get(), f.stride, f.disks, f.normed.get(), f.normed_stride);
        block.qkv(f.normed.get(), f.normed_stride, f.disks, qkv.get(), row);
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            const std::int64_t first = f.first[size(p)];
            kernels_.attend({qkv.get() + first * row, row, f.cosine.get() + first * pairs(),
                             f.sine.get() + first * pairs(), scratch.get(),
                             attended.get() + first * heads_.part(), f.length(p), heads_.channels,
                             heads_.lanes});
        }
        block.out(attended.get(), heads_.part(), f.disks, f.x.get(), f.stride, Epilogue::add);
        block.norm2(f.x.get(), f.stride, f.disks, f.normed.get(), f.normed_stride);
        block.up(f.normed.get(), f.normed_stride, f.disks, qkv.get(), wide, Epilogue::gelu);
        block.down(qkv.get(), wide, f.disks, f.x.get(), f.stride, Epilogue::add);
    }
}

}  // namespace microinfer::networks
