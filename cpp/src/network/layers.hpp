/// The layers of the networks: linear maps, packed for `Kernels::linear`, and layer norms.
#pragma once

#include "arrays.hpp"
#include "kernels.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
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
                std::vector<Bfloat16> nearest(row.size());
                std::transform(row.begin(), row.end(), nearest.begin(), rounded);
                pack(halves_, 2, o, nearest);
            } else {
                pack(weight_, 1, o, row);
            }
        }
    }

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

/// A layer norm; owns its weights.
class LayerNorm {
  public:
    LayerNorm(const Kernels& kernels, const float* scale, const float* shift, std::int64_t width)
        : kernels_(&kernels), scale_(scale, scale + width), shift_(shift, shift + width) {}

    void operator()(const float* x, std::int64_t x_stride, std::int64_t rows, float* y,
                    std::int64_t y_stride) const {
        kernels_->layer_norm(x, x_stride, rows, static_cast<std::int64_t>(scale_.size()), scale_.data(),
                             shift_.data(), y, y_stride);
    }

  private:
    const Kernels* kernels_;
    std::vector<float> scale_;
    std::vector<float> shift_;
};

/// Makes a network's layers of a model's arrays.
struct Layers {
    const Kernels& kernels;
    Numbers numbers;
    Arrays& arrays;

    /// A linear map by its name in the checkpoint.
    [[nodiscard]] Linear linear(const std::string& name, std::int64_t outputs, std::int64_t inputs) const {
        const float* const weight = arrays.take<float>(name + ".weight", {outputs, inputs});
        const float* const bias = arrays.take<float>(name + ".bias", {outputs});
        return {kernels,
                numbers,
                outputs,
                inputs,
                [=](std::int64_t o, std::int64_t i) { return weight[o * inputs + i]; },
                [=](std::int64_t o) { return bias[o]; }};
    }

    [[nodiscard]] LayerNorm layer_norm(const std::string& name, std::int64_t width) const {
        return {kernels, arrays.take<float>(name + ".weight", {width}),
                arrays.take<float>(name + ".bias", {width}), width};
    }
};

/// Uninitialised memory.
inline std::unique_ptr<float[]> buffer(std::int64_t elements) {
    return std::unique_ptr<float[]>(new float[size(std::max<std::int64_t>(elements, 1))]);
}

}  // namespace microinfer::networks
