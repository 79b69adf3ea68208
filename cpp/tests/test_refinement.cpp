#include "throws.hpp"

#include <microinfer/matrix3.hpp>
#include <microinfer/refinement.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace microinfer;
using microinfer::tests::expect_throws;

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
Matrix3<float> about_z(double angle) {
    const auto c = static_cast<float>(std::cos(angle));
    const auto s = static_cast<float>(std::sin(angle));
    return {{{c, -s, 0.0F}, {s, c, 0.0F}, {0.0F, 0.0F, 1.0F}}};
}

/// Polishes a rotation about z against disks at `radius` and `polar`.
Polished polished(const RefinementSpec& spec, const std::vector<float>& radius,
                  const std::vector<float>& polar, double start,
                  std::vector<double> reflections = cubic_reflections()) {
    const std::vector<float> intensity(radius.size(), 1.0F);
    const auto count = static_cast<std::int32_t>(radius.size());
    const auto size = static_cast<std::int64_t>(reflections.size() / 4);
    const Refinement refinement(std::move(reflections), {0, size}, 0.0197, spec);
    const std::int64_t phase = 0;
    const Matrix3<float> matrix = about_z(start);
    Polished found{};
    refinement.polish(
        {radius.data(), polar.data(), intensity.data(), nullptr, nullptr, nullptr, &count, 1, count}, 0,
        {&matrix.m[0][0], &phase, 1}, &found);
    return found;
}

void expect_about_z(const Polished& found, double angle, double tolerance) {
    const Matrix3<float> expected = about_z(angle);
    for (int i = 0; i < 9; ++i) {
        EXPECT_NEAR(found.matrix[i], expected.m[i / 3][i % 3], tolerance) << "element " << i;
    }
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
    const Polished found = polished({}, radius, polar, angle + 0.0175);
    expect_about_z(found, angle, 1e-3);
    EXPECT_GT(found.score, 0.0);
    EXPECT_LE(found.score, 1.0);
    EXPECT_GT(found.log_likelihood, polished({}, radius, polar, angle + 0.4).log_likelihood);
}

TEST(Refinement, NoMatchRadiusReachesBeyondTheReflections) {
    std::vector<double> few = cubic_reflections();
    few.resize(4 * 5);  // fewer than fill a vector of the machine
    for (const double match_radius : {1e4, 1e30}) {
        RefinementSpec spec;
        spec.match_radius = match_radius;
        const Polished found = polished(spec, {0.25F, 0.5F}, {0.0F, 1.0F}, 0.3, few);
        EXPECT_TRUE(found.score >= 0.0 && found.score <= 1.0) << found.score;
    }
}

TEST(Refinement, APatternWithoutDisksKeepsItsCandidate) {
    const Polished found = polished({}, {}, {}, 0.3);
    expect_about_z(found, 0.3, 1e-7);
    EXPECT_EQ(found.score, 0.0);
}

TEST(Refinement, NamesWhatIsOutOfRange) {
    const auto expect_refused = [](double wavelength, double RefinementSpec::* entry, double value,
                                   std::vector<std::int64_t> offsets, const std::string& reason) {
        RefinementSpec spec;
        spec.*entry = value;
        expect_throws<std::invalid_argument>(
            [&] { Refinement({1.0, 0.0, 0.0, 1.0}, std::move(offsets), wavelength, spec); }, reason);
    };
    const auto radius = &RefinementSpec::match_radius;
    expect_refused(0.02, radius, 0.0, {0, 1}, "match_radius must be positive and finite, got 0");
    expect_refused(0.02, &RefinementSpec::false_share, 1.0, {0, 1},
                   "false_share must lie between 0 and 1, got 1");
    expect_refused(std::nan(""), radius, 0.1, {0, 1}, "wavelength must be positive and finite");
    expect_refused(0.02, radius, 0.1, {0, 2}, "offsets must rise from 0 to the number of reflections, got 1");
    expect_refused(0.02, radius, 0.1, {1}, "offsets must rise from 0");
}
