#include <microinfer/refinement.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

using namespace microinfer;

namespace {

/// The reflections of a simple cubic lattice of 4 Angstrom, in the crystal's frame.
std::vector<double> cubic_reflections() {
    std::vector<double> vectors;
    for (int h = -6; h <= 6; ++h) {
        for (int k = -6; k <= 6; ++k) {
            for (int l = -2; l <= 2; ++l) {
                if (h != 0 || k != 0 || l != 0) {
                    vectors.insert(vectors.end(), {h / 4.0, k / 4.0, l / 4.0, 1.0});
                }
            }
        }
    }
    return vectors;
}

/// The rotation about z by an angle.
std::array<double, 9> about_z(double angle) {
    return {std::cos(angle), -std::sin(angle), 0, std::sin(angle), std::cos(angle), 0, 0, 0, 1};
}

}  // namespace

TEST(Refinement, TurnsACandidateOntoTheDisks) {
    // Disks of a crystal seen along c and turned by an angle in the plane; the candidate is a degree off.
    std::mt19937 random(std::random_device{}());
    const double angle = std::uniform_real_distribution<double>(-0.5, 0.5)(random);
    std::vector<float> radius;
    std::vector<float> polar;
    for (const auto& [h, k] :
         {std::array{1, 0}, {0, 1}, {-1, 0}, {0, -1}, {1, 1}, {-1, -1}, {2, 1}, {-2, 0}}) {
        radius.push_back(static_cast<float>(std::hypot(h, k) / 4.0));
        polar.push_back(static_cast<float>(std::atan2(k, h) - angle));
    }
    const std::vector<float> intensity(radius.size(), 1.0F);
    const auto count = static_cast<std::int32_t>(radius.size());
    const std::vector<double> vectors = cubic_reflections();
    const std::array<std::int64_t, 2> offsets = {0, static_cast<std::int64_t>(vectors.size() / 4)};
    const std::array<double, 9> start = about_z(angle + 0.0175);
    const std::int64_t phase = 0;
    const bool selected = true;
    const RefinementSpec spec = {0.0197, 0.04, 3e-4, 0.02, 0.014, 0.014, 0.035, 0.05, 6};
    std::array<double, 9> found{};
    double likelihood = 0.0;
    double explained = 0.0;
    double score = 0.0;
    double error = 0.0;
    refine({radius.data(), polar.data(), intensity.data(), &count, 1, count},
           {vectors.data(), offsets.data(), 1}, {start.data(), &phase, &selected, 1}, spec,
           {found.data(), &likelihood, &explained, &score, &error});
    const std::array<double, 9> expected = about_z(angle);
    for (std::size_t i = 0; i < 9; ++i) {
        EXPECT_NEAR(found[i], expected[i], 1e-3) << "element " << i;
    }
    EXPECT_DOUBLE_EQ(explained, 1.0);
    EXPECT_GT(score, 0.0);
    EXPECT_LE(score, 1.0);
}

TEST(Refinement, NoMatchRadiusReachesBeyondTheReflections) {
    std::vector<double> vectors = cubic_reflections();
    vectors.resize(4 * 5);
    const std::array<std::int64_t, 2> offsets = {0, 5};  // fewer than fill a vector of the machine
    const std::array<float, 2> radius = {0.25F, 0.5F};
    const std::array<float, 2> polar = {0.0F, 1.0F};
    const std::array<float, 2> intensity = {1.0F, 0.5F};
    const std::int32_t count = 2;
    const std::array<double, 9> start = about_z(0.3);
    const std::int64_t phase = 0;
    const bool selected = true;
    for (const double match_radius : {1e4, 1e30}) {
        const RefinementSpec spec = {0.0197, match_radius, 3e-4, 0.02, 0.014, 0.014, 0.035, 0.05, 6};
        std::array<double, 9> found{};
        double likelihood = 0.0;
        double explained = 0.0;
        double score = 0.0;
        double error = 0.0;
        refine({radius.data(), polar.data(), intensity.data(), &count, 1, 2},
               {vectors.data(), offsets.data(), 1}, {start.data(), &phase, &selected, 1}, spec,
               {found.data(), &likelihood, &explained, &score, &error});
        EXPECT_TRUE(explained >= 0.0 && explained <= 1.0) << explained;
    }
}

TEST(Refinement, APatternWithoutDisksKeepsItsCandidate) {
    const std::vector<double> vectors = cubic_reflections();
    const std::array<std::int64_t, 2> offsets = {0, static_cast<std::int64_t>(vectors.size() / 4)};
    const std::array<double, 9> start = about_z(0.3);
    const std::int32_t count = 0;
    const std::int64_t phase = 0;
    const bool selected = true;
    std::array<double, 9> found{};
    double likelihood = -1.0;
    double explained = -1.0;
    double score = -1.0;
    double error = -1.0;
    refine({nullptr, nullptr, nullptr, &count, 1, 0}, {vectors.data(), offsets.data(), 1},
           {start.data(), &phase, &selected, 1}, {0.0197, 0.04, 3e-4, 0.02, 0.014, 0.014, 0.035, 0.05, 6},
           {found.data(), &likelihood, &explained, &score, &error});
    for (std::size_t i = 0; i < 9; ++i) {
        EXPECT_NEAR(found[i], start[i], 1e-12) << "element " << i;
    }
    EXPECT_EQ(explained, 0.0);
    EXPECT_EQ(score, 0.0);
}
