/// Linear maps packed for `Kernels::linear`.
#pragma once

#include "kernels.hpp"

#include <microinfer/network.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace microinfer::networks {

inline std::size_t size(std::int64_t value) {
    return static_cast<std::size_t>(value);
}

/// `count` rounded up to a multiple of `step`.
inline std::int64_t padded(std::int64_t count, std::int64_t step) {
    return (count + step - 1) / step * step;
}

/// The nearest bfloat16 number, the even one of two; NaN stays NaN.
inline Bfloat16 rounded(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (value != value) {
        return static_cast<Bfloat16>(bits >> 16 | 0x40U);
    }
    return static_cast<Bfloat16>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

inline float widened(Bfloat16 value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

/// An output's weights in bfloat16, and multiples of the power of two next to 2^-16 of the sum of their
/// sizes. Inputs are multiples of 2^-9 of the power of two next to the largest (`Kernels::round`), and each
/// half of them is summed apart. So where a row's mean size, weighted by the weights', is four ninths of its
/// largest or less, two ninths from either half, every sum within a half is a float32 number, and the order
/// of summing does not count; elsewhere that still is so but rarely, as signs mix.
inline std::vector<Bfloat16> on_grid(std::vector<float> weight) {
    double sum = 0.0;
    for (float& w : weight) {
        w = widened(rounded(w));
        sum += std::abs(w);
    }
    const float magic = 0x1.8p23F * power_of_two(static_cast<float>(sum * 0x1p-16));
    std::vector<Bfloat16> on(weight.size());
    std::transform(weight.begin(), weight.end(), on.begin(), [magic](float w) {
        return rounded(w + magic - magic);  // a multiple
    });
    return on;
}

/// A packed linear map; owns its weights.
class Linear {
  public:
    /// Weight and bias as functions of their indices.
    template <typename Weight, typename Bias>
    Linear(const Kernels& kernels, Numbers numbers, std::int64_t outputs, std::int64_t inputs,
           const Weight& weight, const Bias& bias)
        : kernels_(&kernels),
          inputs_(inputs),
          columns_(padded(outputs, kernels.panel)),
          bias_(size(columns_), 0.0F) {
        const bool halves = numbers == Numbers::bfloat16;
        halves_.resize(halves ? size(columns_ * padded(inputs, 2)) : 0);
        weight_.resize(halves ? 0 : size(columns_ * inputs));
        std::vector<float> row(size(inputs));
        for (std::int64_t o = 0; o < outputs; ++o) {
            bias_[size(o)] = bias(o);
            for (std::int64_t i = 0; i < inputs; ++i) {
                row[size(i)] = weight(o, i);
            }
            if (halves) {
                pack(halves_, 2, o, on_grid(row));
            } else {
                pack(weight_, 1, o, row);
            }
        }
    }

    Linear(const Kernels& kernels, Numbers numbers, const LinearWeights& of)
        : Linear(
              kernels, numbers, of.outputs, of.inputs,
              [&](std::int64_t o, std::int64_t i) { return of.weight[o * of.inputs + i]; },
              [&](std::int64_t o) { return of.bias == nullptr ? 0.0F : of.bias[o]; }) {}

    /// Columns of the result, padding included.
    [[nodiscard]] std::int64_t columns() const { return columns_; }

    void operator()(const float* x, std::int64_t x_stride, std::int64_t rows, float* y, std::int64_t y_stride,
                    Epilogue epilogue = Epilogue::none) const {
        const std::int64_t panels = columns_ / kernels_->panel;
        if (halves_.empty()) {
            kernels_->linear(x, x_stride, rows, {weight_.data(), bias_.data(), inputs_, panels}, y, y_stride,
                             epilogue);
            return;
        }
        const std::int64_t stride = padded(inputs_, kernels_->panel);
        const std::unique_ptr<Bfloat16[]> halves(new Bfloat16[size(rows * stride)]);
        kernels_->round(x, x_stride, rows, inputs_, halves.get(), stride);
        kernels_->linear_bfloat16(halves.get(), stride, rows,
                                  {halves_.data(), bias_.data(), padded(inputs_, 2), panels}, y, y_stride,
                                  epilogue);
    }

  private:
    /// Puts an output's weights in their places; `together` inputs lie side by side.
    template <typename Number>
    void pack(std::vector<Number>& to, std::int64_t together, std::int64_t o,
              const std::vector<Number>& weight) {
        const std::int64_t panel = kernels_->panel;
        const std::int64_t inputs = padded(inputs_, together);
        for (std::int64_t i = 0; i < inputs_; ++i) {
            const std::int64_t first = o / panel * inputs + i - i % together;
            to[size(first * panel + o % panel * together + i % together)] = weight[size(i)];
        }
    }

    const Kernels* kernels_;
    std::int64_t inputs_;
    std::int64_t columns_;
    std::vector<float> weight_;     // of either kind of numbers,
    std::vector<Bfloat16> halves_;  // the other one is empty
    std::vector<float> bias_;
};

}  // namespace microinfer::networks
