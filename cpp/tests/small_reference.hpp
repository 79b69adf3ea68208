/// A small reference model with random weights.
#pragma once

#include "random_arrays.hpp"

#include <microinfer/tokenizer.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace microinfer::tests {

/// A model of two phases, and the tokens that fit its bins.
class SmallReference : public RandomArrays {
  public:
    SmallReference() {
        add_random("radius_table", {tokens.radius_bins, kWidth}, 0.0, 1.0);
        add_random("angle_table", {tokens.angle_bins, kWidth}, 0.0, 1.0);
        add_random("intensity_table", {tokens.intensity_bins, kWidth}, 0.0, 1.0);
        add_norm("norm_in", kWidth);
        for (int block = 0; block < 2; ++block) {
            add_block("blocks." + std::to_string(block), kWidth);
        }
        add_norm("norm_out", kWidth);
        add_linear("orientation_head.0", kWidth / 2, kWidth, 1.0);
        add_norm("orientation_head.1", kWidth / 2);
        add_linear("orientation_head.3", kWidth / 4, kWidth / 2, 1.0);
        add_linear("orientation_head.5", kWidth / 8, kWidth / 4, 1.0);
        add_linear("orientation_head.7", 9, kWidth / 8, 1.0);
        add_linear("phase_head.0", kWidth / 2, kWidth, 1.0);
        add_linear("phase_head.2", 2, kWidth / 2, 1.0);
    }

    /// Makes the network's output for every pattern this 3 x 3 matrix, row by row.
    void set_output(std::vector<float> matrix) {
        add("orientation_head.7.weight", {9, kWidth / 8}, std::vector<float>(9 * (kWidth / 8)));
        add("orientation_head.7.bias", {9}, std::move(matrix));
    }

    ReferenceSettings settings = {2};
    TokenSpec tokens = {2.0F, 20, 36, 1e-3F, 8, 0.05F, 40, 2};

  private:
    static constexpr std::int64_t kWidth = 20;
};

}  // namespace microinfer::tests
