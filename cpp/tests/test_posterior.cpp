#include "small_posterior.hpp"
#include "throws.hpp"

#include <microinfer/network_arrays.hpp>
#include <microinfer/thread_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

using namespace microinfer;
using namespace microinfer::tests;

namespace {

constexpr std::size_t kPatterns = 50;

/// Some of the patterns, in the order of `index`.
Patterns part_of(const Patterns& all, const std::vector<std::size_t>& index) {
    const auto length = static_cast<std::ptrdiff_t>(all.length);
    Patterns part{{}, {}, {}, {}, all.length};
    for (const std::size_t i : index) {
        const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(i) * length;
        part.radius.insert(part.radius.end(), all.radius.begin() + first,
                           all.radius.begin() + first + length);
        part.angle.insert(part.angle.end(), all.angle.begin() + first, all.angle.begin() + first + length);
        part.intensity.insert(part.intensity.end(), all.intensity.begin() + first,
                              all.intensity.begin() + first + length);
        part.count.push_back(all.count[i]);
    }
    return part;
}

/// Whether pattern `i` of one and pattern `j` of the other have the same modes, to the bit.
bool same(const Modes& one, std::size_t i, const Modes& other, std::size_t j) {
    const std::size_t modes = one.phase.size() / one.no_crystal.size();
    const auto equal = [&](const auto& a, const auto& b, std::size_t width) {
        const auto from = a.begin() + static_cast<std::ptrdiff_t>(i * width);
        return std::equal(from, from + static_cast<std::ptrdiff_t>(width),
                          b.begin() + static_cast<std::ptrdiff_t>(j * width));
    };
    return equal(one.matrix, other.matrix, 9 * modes) && equal(one.phase, other.phase, modes) &&
           equal(one.probability, other.probability, modes) && equal(one.no_crystal, other.no_crystal, 1);
}

/// Whether the first mode is far from equally probable as the second: it keeps its rank under rounding.
bool is_clear(const Modes& found, std::size_t i) {
    const std::size_t modes = found.phase.size() / found.no_crystal.size();
    return found.probability[i * modes] - found.probability[i * modes + 1] > 0.02F;
}

/// Sets the threads of the pool until the end of its scope.
class Threads {
  public:
    explicit Threads(int count) : before_(num_threads()) { set_num_threads(count); }
    ~Threads() { set_num_threads(before_); }
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

  private:
    int before_;
};

class Posterior : public testing::Test {
  protected:
    const SmallPosterior model_;
    const std::unique_ptr<PosteriorNetwork> network_ =
        make_posterior_network(model_.arrays(), model_.settings);
    const Patterns patterns_ = random_patterns(kPatterns, 3);
};

}  // namespace

TEST_F(Posterior, AnAnswerDependsOnItsOwnPatternAlone) {
    const Modes whole = modes_of(*network_, patterns_.view());
    std::vector<std::size_t> backwards(kPatterns);
    for (std::size_t i = 0; i < kPatterns; ++i) {
        backwards[i] = kPatterns - 1 - i;
        EXPECT_TRUE(same(modes_of(*network_, part_of(patterns_, {i}).view()), 0, whole, i))
            << "pattern " << i << " alone";
    }
    const Modes turned = modes_of(*network_, part_of(patterns_, backwards).view());
    for (std::size_t i = 0; i < kPatterns; ++i) {
        EXPECT_TRUE(same(turned, i, whole, backwards[i])) << "pattern " << backwards[i] << " in reverse";
    }
}

TEST_F(Posterior, NoThreadCountChangesABit) {
    const auto with_threads = [&](int count) {
        const Threads threads(count);
        return modes_of(*network_, patterns_.view());
    };
    const Modes one = with_threads(1);
    const Modes three = with_threads(3);
    for (std::size_t i = 0; i < kPatterns; ++i) {
        EXPECT_TRUE(same(one, i, three, i)) << "pattern " << i;
    }
}

TEST_F(Posterior, ProbabilitiesAreRankedAndMatricesAreRotations) {
    const Modes found = modes_of(*network_, patterns_.view());
    const auto modes = static_cast<std::size_t>(network_->modes());
    for (std::size_t i = 0; i < kPatterns; ++i) {
        const float* const probability = found.probability.data() + i * modes;
        // without disks nothing fixes the in-plane angle: no mode
        EXPECT_EQ(probability[0] > 0.0F, patterns_.count[i] > 0);
        EXPECT_TRUE(std::is_sorted(probability, probability + modes, std::greater<>()));
        EXPECT_GE(probability[modes - 1], 0.0F);
        EXPECT_LE(probability[0] + found.no_crystal[i], 1.0F + 1e-5F);
        const float* const m = found.matrix.data() + i * modes * 9;
        for (int r = 0; r < 3; ++r) {
            for (int s = 0; s < 3; ++s) {
                const float product =
                    m[3 * r] * m[3 * s] + m[3 * r + 1] * m[3 * s + 1] + m[3 * r + 2] * m[3 * s + 2];
                EXPECT_NEAR(product, r == s ? 1.0F : 0.0F, 1e-5F);
            }
        }
    }
}

TEST_F(Posterior, PatternsWithoutDisksHaveOneAnswer) {
    const Patterns empty{{}, {}, {}, {0, 0, 0}, 0};
    const Modes found = modes_of(*network_, empty.view());
    const Modes whole = modes_of(*network_, patterns_.view());
    ASSERT_EQ(patterns_.count[0], 0);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(same(found, i, whole, 0));
    }
    EXPECT_TRUE(modes_of(*network_, Patterns{{}, {}, {}, {}, 40}.view()).phase.empty());
}

TEST_F(Posterior, ATurnedPatternHasTheTurnedAnswer) {
    constexpr float turn = 0.7F;
    Patterns turned = patterns_;
    for (float& angle : turned.angle) {
        angle += turn;
    }
    const Modes before = modes_of(*network_, patterns_.view());
    const Modes after = modes_of(*network_, turned.view());
    const auto modes = static_cast<std::size_t>(network_->modes());
    int compared = 0;
    for (std::size_t i = 0; i < kPatterns; ++i) {
        if (patterns_.count[i] == 0 || !is_clear(before, i)) {
            continue;
        }
        ++compared;
        EXPECT_EQ(before.phase[i * modes], after.phase[i * modes]);
        EXPECT_NEAR(before.probability[i * modes], after.probability[i * modes], 5e-3F);
        // M Rz(turn)^T
        const float* const m = before.matrix.data() + i * modes * 9;
        const float* const found = after.matrix.data() + i * modes * 9;
        for (int r = 0; r < 3; ++r) {
            const float x = m[3 * r];
            const float y = m[3 * r + 1];
            EXPECT_NEAR(found[3 * r], x * std::cos(turn) - y * std::sin(turn), 5e-3F);
            EXPECT_NEAR(found[3 * r + 1], x * std::sin(turn) + y * std::cos(turn), 5e-3F);
            EXPECT_NEAR(found[3 * r + 2], m[3 * r + 2], 5e-3F);
        }
    }
    EXPECT_GT(compared, 10);
}

TEST_F(Posterior, InstructionSetsAgree) {
    const auto modes = static_cast<std::size_t>(network_->modes());
    const auto with = [&](const std::string& instructions) {
        return modes_of(
            *make_posterior_network(model_.arrays(), model_.settings, Numbers::float32, instructions),
            patterns_.view());
    };
    const Modes baseline = with("baseline");
    int compared = 0;
    for (const std::string& instructions : instruction_sets()) {
        const Modes found = with(instructions);
        for (std::size_t i = 0; i < kPatterns; ++i) {
            EXPECT_NEAR(found.no_crystal[i], baseline.no_crystal[i], 1e-4F) << instructions;
            if (!is_clear(baseline, i)) {
                continue;
            }
            ++compared;
            EXPECT_EQ(found.phase[i * modes], baseline.phase[i * modes]) << instructions;
            EXPECT_NEAR(found.probability[i * modes], baseline.probability[i * modes], 1e-3F) << instructions;
            for (std::size_t k = 0; k < 9; ++k) {
                EXPECT_NEAR(found.matrix[i * modes * 9 + k], baseline.matrix[i * modes * 9 + k], 1e-3F)
                    << instructions << ", pattern " << i;
            }
        }
    }
    EXPECT_GT(compared, 10);
    expect_throws<std::invalid_argument>([&] { (void)with("neon"); }, "got 'neon'");
}

TEST_F(Posterior, EveryMissingArrayIsNamed) {
    const NamedArrays whole = model_.arrays();
    for (const auto& [name, array] : whole) {
        NamedArrays arrays = whole;
        arrays.erase(name);
        // without its first array, a block's others are too many
        const bool ends_block = name.ends_with(".norm1.weight");
        const std::string block = name.substr(0, name.find("norm1"));
        expect_throws<std::invalid_argument>(
            [&] { (void)make_posterior_network(arrays, model_.settings); },
            ends_block ? "the model has an array " + block : "the model has no array " + name);
    }
}

TEST_F(Posterior, ArraysThatDoNotFitAreNamed) {
    const NamedArrays whole = model_.arrays();
    const auto expect_refused = [&](const std::string& name, const ArrayView& array,
                                    const std::string& reason) {
        NamedArrays arrays = whole;
        arrays[name] = array;
        expect_throws<std::invalid_argument>([&] { (void)make_posterior_network(arrays, model_.settings); },
                                             reason);
    };
    const auto& weight = whole.at("blocks.1.attention.out.weight");
    expect_refused("blocks.1.attention.out.weight", {weight.elements, {400}},
                   "blocks.1.attention.out.weight does not fit the other arrays, got shape (400,), "
                   "expected (20, 20)");
    expect_refused("operators", {weight.elements, {2}}, "operators has too few axes, got shape (2,)");
    expect_refused("operators", {weight.elements, {2, 0, 3, 3}}, "phases and their operators");
    const std::vector<std::int64_t> numbers(14, -1);
    expect_refused("norm.bias", {numbers.data(), {20}}, "norm.bias must hold float32");
    expect_refused("harmonics", {weight.elements, {5}}, "harmonics must hold int64");
    expect_refused("harmonics", {numbers.data(), {5}}, "harmonics must lie in [0, 1024], got -1");
    expect_refused("cell_phase", {numbers.data(), {14}}, "cell_phase must lie in [0, 2), got -1");
    expect_refused("cell_waves.0.bias", {weight.elements, {28}},
                   "the model has an array cell_waves.0.bias that the core does not know");
}

TEST_F(Posterior, ScoresThatOverflowGivePhasesOfTheModel) {
    NamedArrays arrays = model_.arrays();
    ArrayView& qkv = arrays.at("blocks.0.attention.qkv.weight");
    const auto* const weight = std::get<const float*>(qkv.elements);
    std::vector<float> huge(weight, weight + 3 * 20 * 20);
    for (float& element : huge) {
        element *= 3e19F;  // of their products some are infinite, and some sums are no numbers
    }
    qkv.elements = huge.data();
    const tests::Patterns patterns = tests::random_patterns(60, 9);
    for (const std::string& instructions : instruction_sets()) {
        const auto network = make_posterior_network(arrays, model_.settings, Numbers::float32, instructions);
        for (const std::int64_t phase : tests::modes_of(*network, patterns.view()).phase) {
            EXPECT_TRUE(phase == 0 || phase == 1) << instructions;
        }
    }
}

TEST_F(Posterior, SettingsThatCannotBeAreRefused) {
    const auto expect_refused = [&](const auto& change, const std::string& reason) {
        PosteriorSettings settings = model_.settings;
        change(settings);
        expect_throws<std::invalid_argument>([&] { (void)make_posterior_network(model_.arrays(), settings); },
                                             reason);
    };
    expect_refused([](PosteriorSettings& s) { s.heads = 3; },
                   "the width 20 must be a multiple of twice the heads, got 3");
    expect_refused([](PosteriorSettings& s) { s.orders = {2, 1, 3}; },
                   "orders must rise from 1 or more and end at 1024 or less, got 1 at 1");
    expect_refused([](PosteriorSettings& s) { s.heads = std::int64_t{1} << 62; }, "twice the heads");
    expect_refused([](PosteriorSettings& s) { s.orders = {1, 2, std::int64_t{1} << 62}; }, "at 2");
    expect_refused([](PosteriorSettings& s) { s.orders.clear(); }, "orders must not be empty");
    expect_refused([](PosteriorSettings& s) { s.top_cells = 0; }, "top_cells must be at least 1, got 0");
    expect_refused([](PosteriorSettings& s) { s.cells_edge = 0.0; },
                   "cells_edge must be positive and finite, got 0");
    expect_refused([](PosteriorSettings& s) { s.window = s.angles; },
                   "window must be at least 0 and below half");
    expect_refused([](PosteriorSettings& s) { s.modes = 0; }, "modes must lie in [1, 1024], got 0");
    expect_refused([](PosteriorSettings& s) { s.modes = 4294967297; },
                   "modes must lie in [1, 1024], got 4294967297");
    expect_refused([](PosteriorSettings& s) { s.mode_radius = std::nan(""); },
                   "mode_radius must be positive and finite, got nan");
    expect_refused([](PosteriorSettings& s) { s.leading = 1.0; },
                   "leading must be at least 0 and below 1, got 1");
    expect_refused([](PosteriorSettings& s) { s.confidence_edge = 0.0; },
                   "confidence_edge must be positive and finite, got 0");
    expect_refused([](PosteriorSettings& s) { s.mode_radius = 0.3; }, "must end before 0.2");
}
