/// The loops of the models' networks, compiled once for each instruction set. All is float32, but for the
/// factors of linear maps, which may be bfloat16.
///
/// Rows of what linear maps write lie `Kernels::panel`-padded apart, so that those have no remainder. A row's
/// result does not depend on the rows beside it.
#pragma once

#include <cstdint>
#include <string>

namespace microinfer::networks {

/// What linear maps multiply; products are summed in float32.
enum class Numbers { float32, bfloat16 };

/// What happens to a linear map's result.
enum class Epilogue { none, gelu, add };

/// The upper half of a float's bits.
using Bfloat16 = std::uint16_t;

/// A linear map y = W x + b, packed: panels of `Kernels::panel` outputs, all inputs of a panel together.
template <typename Weight>
struct LinearView {
    const Weight* weight;  ///< (panels, inputs, panel), or of Bfloat16 (panels, inputs / 2, panel, 2)
    const float* bias;     ///< (panels * panel,)
    std::int64_t inputs;   ///< of Bfloat16 filled up to an even number
    std::int64_t panels;
};

/// Rotary attention of one pattern; head h of channel d lies at d * heads + h.
struct AttentionView {
    const float* qkv;     ///< (length, 3, channels, heads): queries, keys and values
    std::int64_t row;     ///< distance of the disks' rows in it
    const float* cosine;  ///< (length, channels / 2) of each channel pair's angle
    const float* sine;
    float* scratch;  ///< `numbers` of them
    float* out;      ///< (length, channels, heads)
    std::int64_t length;
    std::int64_t channels;  ///< of one head; channel d and channel d + channels / 2 are a pair
    std::int64_t heads;     ///< a multiple of `Kernels::head_lanes`

    /// How many numbers the scratch holds.
    static std::int64_t numbers(std::int64_t length, std::int64_t channels, std::int64_t heads) {
        return (3 * length + 1) * channels * heads + length * heads;
    }
};

/// Unit quaternions, component by component; filled with zeros to a multiple of `Kernels::panel`. Not owning.
struct QuaternionsView {
    float* part[4];
    std::int64_t count;
};

/// One instruction set's loops.
struct Kernels {
    const char* name;
    std::int64_t panel;       ///< columns that a linear map computes at a time
    std::int64_t head_lanes;  ///< heads that attention computes at a time
    /// y (rows, panels * panel) from x (rows, inputs); `Epilogue::add` adds to what y holds.
    void (*linear)(const float* x, std::int64_t x_stride, std::int64_t rows, const LinearView<float>& map,
                   float* y, std::int64_t y_stride, Epilogue epilogue);
    /// Rounds x (rows, inputs) to bfloat16; y's rows are filled up with zeros to a multiple of 16. Null where
    /// the instruction set does not multiply bfloat16, as is `linear_bfloat16`.
    void (*round)(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t inputs, Bfloat16* y,
                  std::int64_t y_stride);
    /// As `linear`, with products of bfloat16 numbers that are summed in float32.
    void (*linear_bfloat16)(const Bfloat16* x, std::int64_t x_stride, std::int64_t rows,
                            const LinearView<Bfloat16>& map, float* y, std::int64_t y_stride,
                            Epilogue epilogue);
    /// y = (x - mean) / sqrt(variance + 1e-5) * scale + shift, row by row.
    void (*layer_norm)(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t width,
                       const float* scale, const float* shift, float* y, std::int64_t y_stride);
    void (*attend)(const AttentionView& view);
    /// Weighted sums of the rows of x (rows, width): y (sums, width) for weight (rows, sums).
    void (*sum_rows)(const float* x, std::int64_t stride, std::int64_t rows, std::int64_t width,
                     const float* weight, std::int64_t sums, float* y);
    /// Index of the largest element, of equals the first.
    std::int64_t (*highest)(const float* x, std::int64_t size);
    /// The first index from `begin` on with x[i] > threshold; `size` where there is none.
    std::int64_t (*next_above)(const float* x, std::int64_t begin, std::int64_t size, float threshold);
    /// log sum exp(x[i]).
    float (*log_sum_exp)(const float* x, std::int64_t size);
    /// Re and Im of (x + i y) . (a + i b).
    void (*complex_dot)(const float* x, const float* y, const float* a, const float* b, std::int64_t size,
                        float* real, float* imaginary);
    /// For each of some rotations the largest |p . q| with any of the others, and with which.
    void (*nearest)(const QuaternionsView& rotations, const QuaternionsView& others, float* cosine,
                    std::int32_t* which);
};

/// The loops for one of `instruction_sets`, or for the fastest, "auto". Throws std::invalid_argument for
/// others, and where they do not multiply `numbers`.
const Kernels& kernels(const std::string& instructions, Numbers numbers);

}  // namespace microinfer::networks
