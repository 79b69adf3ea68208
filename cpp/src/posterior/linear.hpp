/// Linear maps packed for `Kernels::linear`.
#pragma once

#include "kernels.hpp"

#include <microinfer/posterior.hpp>

#include <cstddef>
#include <vector>

namespace microinfer::posterior {

/// `size` rounded up to a multiple of `step`.
inline std::int64_t padded(std::int64_t size, std::int64_t step) {
    return (size + step - 1) / step * step;
}

/// A packed linear map; owns its weights.
class Linear {
  public:
    /// Weight and bias as functions of their indices.
    template <typename Weight, typename Bias>
    Linear(const Kernels& kernels, std::int64_t outputs, std::int64_t inputs, const Weight& weight,
           const Bias& bias)
        : kernels_(&kernels),
          inputs_(inputs),
          columns_(padded(outputs, kernels.panel)),
          weight_(static_cast<std::size_t>(columns_ * inputs), 0.0F),
          bias_(static_cast<std::size_t>(columns_), 0.0F) {
        const std::int64_t panel = kernels.panel;
        for (std::int64_t o = 0; o < outputs; ++o) {
            bias_[static_cast<std::size_t>(o)] = bias(o);
            for (std::int64_t i = 0; i < inputs; ++i) {
                weight_[static_cast<std::size_t>((o / panel * inputs + i) * panel + o % panel)] =
                    weight(o, i);
            }
        }
    }

    Linear(const Kernels& kernels, const LinearWeights& of)
        : Linear(
              kernels, of.outputs, of.inputs,
              [&](std::int64_t o, std::int64_t i) { return of.weight[o * of.inputs + i]; },
              [&](std::int64_t o) { return of.bias == nullptr ? 0.0F : of.bias[o]; }) {}

    /// Columns of the result, padding included.
    [[nodiscard]] std::int64_t columns() const { return columns_; }

    void operator()(const float* x, std::int64_t x_stride, std::int64_t rows, float* y, std::int64_t y_stride,
                    Epilogue epilogue = Epilogue::none) const {
        const LinearView view = {weight_.data(), bias_.data(), inputs_, columns_ / kernels_->panel};
        kernels_->linear(x, x_stride, rows, view, y, y_stride, epilogue);
    }

  private:
    const Kernels* kernels_;
    std::int64_t inputs_;
    std::int64_t columns_;
    std::vector<float> weight_;
    std::vector<float> bias_;
};

}  // namespace microinfer::posterior
