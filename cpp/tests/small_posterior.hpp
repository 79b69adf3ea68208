/// A small posterior model with random weights, and patterns for it.
#pragma once

#include "random_arrays.hpp"

#include <microinfer/padded_disks.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace microinfer::tests {

/// A model of two phases, sharp enough to have clear answers.
class SmallPosterior : public RandomArrays {
  public:
    SmallPosterior() {
        add_linear("embedding.0", kWidth, 64, 1.0);
        add_linear("embedding.2", kWidth, kWidth, 1.0);
        for (int block = 0; block < 2; ++block) {
            add_block("blocks." + std::to_string(block), kWidth);
        }
        add_norm("norm", kWidth);
        add_linear("cell_head.0", 2 * kWidth, 2 * kWidth, 1.0);
        add_linear("cell_head.2", kCells + 1, 2 * kWidth, 4.0);
        const auto orders = static_cast<std::int64_t>(settings.orders.size());
        add_linear("disk_waves", orders * kChannels * 2, kWidth, 1.0);
        add_linear("wave_gate", orders * kChannels, 2 * kWidth, 1.0);
        for (std::int64_t n = 0; n < orders; ++n) {
            add_random("cell_waves." + std::to_string(n) + ".weight", {2 * kCells, kChannels}, 0.0, 3.0);
        }
        std::vector<float> frames;
        for (int cell = 0; cell < kCells; ++cell) {
            const std::vector<float> frame = random_rotation();
            frames.insert(frames.end(), frame.begin(), frame.end());
        }
        add("cells", {kCells, 3, 3}, frames);
        // the identity and a two-fold axis along z; the identity twice
        const std::vector<float> one = {1, 0, 0, 0, 1, 0, 0, 0, 1};
        const std::vector<float> two = {-1, 0, 0, 0, -1, 0, 0, 0, 1};
        std::vector<float> operators;
        for (const auto& operation : {one, two, one, one}) {
            operators.insert(operators.end(), operation.begin(), operation.end());
        }
        add("operators", {2, 2, 3, 3}, operators);
        std::vector<std::int64_t> phase(kCells, 0);
        std::fill(phase.begin() + kCells / 2, phase.end(), 1);
        add("cell_phase", {kCells}, phase);
        std::vector<std::int64_t> harmonics(static_cast<std::size_t>(kWidth / settings.heads / 2));
        std::iota(harmonics.begin(), harmonics.end(), 0);
        add("harmonics", {static_cast<std::int64_t>(harmonics.size())}, harmonics);
    }

    PosteriorSettings settings = {2, {1, 2, 3}, 8, 0.1, 1e-4, 90, 3, 3, 4, 0.12, 0.7, 0.0524, 0.01};

  private:
    static constexpr std::int64_t kWidth = 20;
    static constexpr std::int64_t kCells = 14;
    static constexpr std::int64_t kChannels = 3;

    std::vector<float> random_rotation() {
        double q[4];
        double norm = 0.0;
        for (double& part : q) {
            part = normal();
            norm += part * part;
        }
        for (double& part : q) {
            part /= std::sqrt(norm);
        }
        const auto [w, x, y, z] = q;
        std::vector<float> matrix;
        for (const double element : {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
                                     2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                                     2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)}) {
            matrix.push_back(static_cast<float>(element));
        }
        return matrix;
    }
};

/// Tokens of patterns, which own their memory.
struct Patterns {
    std::vector<float> radius, angle, intensity;
    std::vector<std::int32_t> count;
    std::int64_t length;

    [[nodiscard]] PaddedDisks view() const {
        return {radius.data(),
                angle.data(),
                intensity.data(),
                count.data(),
                static_cast<std::int64_t>(count.size()),
                length};
    }
};

/// Random patterns of up to 40 disks; behind the last disk of each stands what no one should look at.
inline Patterns random_patterns(std::size_t patterns, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<std::int32_t> count(0, 40);
    std::uniform_real_distribution<float> radius(0.2F, 2.0F);
    std::uniform_real_distribution<float> angle(-3.1F, 3.1F);
    std::uniform_real_distribution<float> intensity(0.01F, 1.0F);
    const std::size_t size = 40 * patterns;
    Patterns drawn{std::vector<float>(size, std::nanf("")), std::vector<float>(size, std::nanf("")),
                   std::vector<float>(size, std::nanf("")), std::vector<std::int32_t>(patterns), 40};
    for (std::size_t p = 0; p < patterns; ++p) {
        drawn.count[p] = p == 0 ? 0 : count(random);
        for (std::size_t i = 0; i < static_cast<std::size_t>(drawn.count[p]); ++i) {
            drawn.radius[40 * p + i] = radius(random);
            drawn.angle[40 * p + i] = angle(random);
            drawn.intensity[40 * p + i] = intensity(random);
        }
    }
    return drawn;
}

/// Modes of patterns, which own their memory.
struct Modes {
    std::vector<float> matrix, probability, no_crystal;
    std::vector<std::int64_t> phase;
};

/// What a network finds.
inline Modes modes_of(const PosteriorNetwork& network, const PaddedDisks& disks) {
    const auto patterns = static_cast<std::size_t>(disks.patterns);
    const std::size_t size = patterns * static_cast<std::size_t>(network.modes());
    Modes found{std::vector<float>(9 * size), std::vector<float>(size), std::vector<float>(patterns),
                std::vector<std::int64_t>(size)};
    network.find_modes(
        disks, {found.matrix.data(), found.phase.data(), found.probability.data(), found.no_crystal.data()});
    return found;
}

}  // namespace microinfer::tests
