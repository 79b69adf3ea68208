#include <microinfer/geodesic.hpp>
#include <microinfer/matrix3.hpp>
#include <microinfer/procrustes.hpp>
#include <microinfer/procrustes_math.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

using namespace microinfer;

namespace {

constexpr std::array<double, 9> kIdentity = {1, 0, 0, 0, 1, 0, 0, 0, 1};

/// The rotation about z by an angle.
std::array<double, 9> about_z(double angle) {
    return {std::cos(angle), -std::sin(angle), 0, std::sin(angle), std::cos(angle), 0, 0, 0, 1};
}

std::vector<double> random_matrices(std::size_t count) {
    std::mt19937_64 random(std::random_device{}());
    std::normal_distribution<double> normal;
    std::vector<double> matrices(9 * count);
    for (double& element : matrices) {
        element = normal(random);
    }
    return matrices;
}

}  // namespace

TEST(Rotations, TheNearestOperatorIsFound) {
    std::vector<double> operators;
    for (int i = 0; i < 4; ++i) {
        const auto turn = about_z(i * std::acos(0.0));
        operators.insert(operators.end(), turn.begin(), turn.end());
    }
    const double pi = std::acos(-1.0);
    for (const double angle : {0.0, 1e-9, 0.3, 1.7, 3.0, -1.2}) {
        const auto predicted = about_z(angle);
        double found = -1.0;
        std::int64_t index = -1;
        symmetry_min_geodesic<double>({predicted.data(), kIdentity.data(), operators.data(), 1, 4}, &found,
                                      &index);
        const double expected = std::abs(std::remainder(angle, pi / 2));
        EXPECT_TRUE(std::abs(found - expected) < 1e-15 + 1e-12 * expected)
            << "angle for " + std::to_string(angle);
        EXPECT_EQ(index, std::lround(angle / (pi / 2) + 4) % 4) << "operator for " + std::to_string(angle);
    }
}

TEST(Rotations, TheLossGradientIsThatOfDifferences) {
    std::vector<double> pair = random_matrices(2);
    const auto angle = [&] {
        double found = 0.0;
        std::int64_t index = 0;
        symmetry_min_geodesic<double>({pair.data(), pair.data() + 9, kIdentity.data(), 1, 1}, &found, &index);
        return found;
    };
    std::array<double, 18> gradient{};
    const std::int64_t index = 0;
    const double upstream = 1.0;
    symmetry_min_geodesic_backward<double>({pair.data(), pair.data() + 9, kIdentity.data(), 1, 1}, &index,
                                           &upstream, gradient.data(), gradient.data() + 9);
    constexpr double step = 1e-6;
    for (std::size_t k = 0; k < 18; ++k) {
        pair[k] += step;
        const double above = angle();
        pair[k] -= 2 * step;
        const double below = angle();
        pair[k] += step;
        const double expected = (above - below) / (2 * step);
        EXPECT_TRUE(std::abs(gradient[k] - expected) < 1e-5 * (1 + std::abs(expected)))
            << "gradient element " + std::to_string(k);
    }
}

TEST(Rotations, ProjectionsAreRotationsWithSymmetricFactors) {
    const std::vector<double> matrices = random_matrices(1000);
    std::vector<double> rotations(matrices.size());
    project_to_so3(matrices.data(), 1000, rotations.data());
    for (std::size_t i = 0; i < 1000; ++i) {
        const auto m = load(matrices.data() + 9 * i);
        const auto r = load(rotations.data() + 9 * i);
        const auto unit = multiply(transposed(r), r);
        const auto h = multiply(transposed(r), m);
        const auto skew = skew_vector(h);
        for (int k = 0; k < 9; ++k) {
            EXPECT_TRUE(std::abs(unit.m[k / 3][k % 3] - kIdentity[static_cast<std::size_t>(k)]) < 1e-14)
                << "R^T R is the identity";
        }
        EXPECT_TRUE(std::sqrt(dot(skew, skew)) < 1e-12) << "R^T M is symmetric";
        EXPECT_TRUE(dot(column(r, 0), cross(column(r, 1), column(r, 2))) > 0.5) << "det R is 1";
    }
}
