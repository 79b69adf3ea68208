/// Correlation of frames with a kernel by Fourier transforms: its loops, compiled once for each instruction
/// set.
///
/// Two real frames travel as the real and the imaginary part of one complex image, each in a plane of its
/// own. An image is transformed a panel of `kPanel` neighbouring columns at a time, which stays in the
/// first-level cache.
#pragma once

#include <cstdint>
#include <vector>

namespace microinfer::detection {

constexpr std::int64_t kPanel = 16;  ///< columns transformed together

/// A complex transform of one length: its passes, and the twiddle factors of each, pass by pass. For pass p
/// of radix r, with l the product of the radices before it: cosine and sine of w^(j q), w = exp(-2 pi i / (l
/// r)), for j < l and 0 < q < r.
struct Plan {
    explicit Plan(std::int64_t length);

    std::int64_t length;
    std::vector<std::int32_t> radices;
    std::vector<float> twiddles;
};

/// The smallest length from `length` on that `Plan` takes: a product of 2, 3 and 5.
std::int64_t transform_length(std::int64_t length);

/// A panel: two buffers of real and imaginary parts, (length, kPanel) each. What a step reads is in `re`,
/// `im`.
struct Panel {
    float* re;
    float* im;
    float* other_re;
    float* other_im;
};

/// Some neighbouring numbers of a row.
struct Span {
    std::int32_t begin;
    std::int32_t end;  ///< not among them
};

/// One instruction set's loops.
struct Transforms {
    const char* name;
    /// The forward transform of a panel's columns; the backward one, unscaled, where `re` and `im` are
    /// swapped.
    void (*columns)(const Plan& plan, Panel& panel);
    /// Multiplies the rows of a panel by those of a kernel, which lie `stride` apart.
    void (*multiply)(const Panel& panel, const float* kernel_re, const float* kernel_im, std::int64_t stride,
                     std::int64_t rows);
    /// Copies rows of kPanel numbers.
    void (*copy)(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride,
                 std::int64_t rows);
    /// Copies 16 x 16 numbers, transposed.
    void (*transpose)(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride);
    /// Sums of the spans of some rows that lie `stride` apart. Up to kPanel numbers behind the last span are
    /// read.
    float (*sum_spans)(const float* first, std::int64_t stride, const Span* spans, std::int64_t rows);
    /// Of kPanel neighbouring numbers those that are above their floors, greater than the four of their
    /// neighbours that lie before them in rows `stride` long and at least as great as the four behind: a bit
    /// each.
    std::uint32_t (*maxima)(const float* first, std::int64_t stride, const float* floors);
};

/// The fastest that this machine has.
const Transforms& transforms();

}  // namespace microinfer::detection
