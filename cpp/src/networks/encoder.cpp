#include "encoder.hpp"

#include <algorithm>
#include <cstddef>

namespace microinfer::networks {

std::unique_ptr<float[]> buffer(std::int64_t elements) {
    return std::unique_ptr<float[]>(new float[size(std::max<std::int64_t>(elements, 1))]);
}

Encoder::Encoder(const Kernels& kernels, Numbers numbers, const BlockWeights* blocks, std::int64_t count,
                 std::int64_t width, std::int64_t heads)
    : kernels_(kernels), between_(kernels.between(numbers)), width_(width), heads_(kernels, width, heads) {
    for (std::int64_t b = 0; b < count; ++b) {
        blocks_.emplace_back(kernels, numbers, blocks[b], width, heads_);
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
    const std::int64_t numbers = AttentionView::numbers(longest, heads_.channels, heads_.lanes);
    const std::unique_ptr<std::byte[]> scratch(new std::byte[size(numbers * between_.size)]);
    for (const Block& block : blocks_) {
        block.norm1(f.x.get(), f.stride, f.disks, f.normed.get(), f.normed_stride);
        block.qkv(f.normed.get(), f.normed_stride, f.disks, qkv.get(), row);
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            const std::int64_t first = f.first[size(p)];
            between_.attend({qkv.get() + first * row, row, f.cosine.get() + first * pairs(),
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
