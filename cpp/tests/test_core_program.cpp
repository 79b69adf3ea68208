#include "core_program.hpp"
#include "disks.hpp"
#include "small_posterior.hpp"
#include "small_reference.hpp"
#include "throws.hpp"

#include <microinfer/mapper.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace microinfer;
using namespace microinfer::runtime;
using microinfer::tests::expect_throws;
using microinfer::tests::SmallPosterior;
using microinfer::tests::SmallReference;

namespace {

/// Random patterns of up to 39 peaks.
PeakList random_peaks(int patterns, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> position(-1.4F, 1.4F);
    std::uniform_real_distribution<float> intensity(0.01F, 1.0F);
    PeakList list;
    for (int i = 0; i < patterns; ++i) {
        std::vector<Peak> peaks(random() % 40);
        for (Peak& peak : peaks) {
            peak = {position(random), position(random), intensity(random)};
        }
        list.add(peaks);
    }
    return list;
}

}  // namespace

TEST(CoreProgram, AnswersWhereAPosteriorFindsACrystal) {
    const SmallPosterior model;
    const auto network = make_posterior_network(model.arrays(), model.settings);
    const auto program = core_program(model.safetensors(), model.settings, {}, Numbers::float32);
    const tests::Patterns patterns = tests::random_patterns(60, 5);
    std::vector<std::int64_t> index(60);
    std::iota(index.begin(), index.end(), 0);
    const Disks disks = {
        index, patterns.radius, patterns.angle, patterns.intensity, {}, {}, {}, patterns.count, 40};
    const CandidateArrays found = program->candidates({}, disks);
    const tests::Modes modes = tests::modes_of(*network, patterns.view());
    EXPECT_EQ(found.matrix, modes.matrix);
    EXPECT_EQ(found.phase, modes.phase);
    const auto count = static_cast<std::size_t>(found.candidates);
    std::size_t valid = 0;
    for (std::size_t i = 0; i < 60; ++i) {
        const float* const probability = modes.probability.data() + i * count;
        const float sum = std::accumulate(probability, probability + count, 0.0F);
        EXPECT_EQ(found.valid[i] != 0, modes.no_crystal[i] < sum);
        valid += found.valid[i];
        for (std::size_t k = 0; k < count; ++k) {
            EXPECT_EQ(found.probability[i * count + k], probability[k] / std::max(sum, 1.0F));
        }
    }
    EXPECT_GT(valid, 0U);
    EXPECT_LT(valid, 60U) << "the test sees no pattern without a crystal";
}

TEST(CoreProgram, GivesTheAnswersOfAReferenceModel) {
    const SmallReference model;
    const auto network = make_reference_network(model.arrays(), model.settings);
    const auto program = core_program(model.safetensors(), model.settings, model.tokens, Numbers::float32);
    const Disks disks = disks_of(random_peaks(60, 6).view(), model.tokens);
    const std::size_t patterns = disks.pattern.size();
    ASSERT_GT(patterns, 30U);
    std::vector<float> matrix(9 * patterns);
    std::vector<std::int64_t> phase(patterns);
    const auto determined = std::make_unique<bool[]>(patterns);
    network->answer(disks.bins(), matrix.data(), phase.data(), determined.get());
    const CandidateArrays found = program->candidates({}, disks);
    EXPECT_EQ(found.candidates, 1);
    EXPECT_EQ(found.matrix, matrix);
    EXPECT_EQ(found.phase, phase);
    EXPECT_EQ(found.probability, std::vector<float>(patterns, 0.0F));
    EXPECT_EQ(found.valid, std::vector<std::uint8_t>(determined.get(), determined.get() + patterns));
}

TEST(CoreProgram, AnswersWhereAReferenceModelDeterminesTheRotation) {
    SmallReference model;
    const PeakList peaks = random_peaks(60, 6);
    const auto valid = [&](std::vector<float> output) {
        model.set_output(std::move(output));
        const auto program =
            core_program(model.safetensors(), model.settings, model.tokens, Numbers::float32);
        return program->candidates({}, disks_of(peaks.view(), model.tokens)).valid;
    };
    const std::vector<std::uint8_t> all(disks_of(peaks.view(), model.tokens).pattern.size(), 1);
    const std::vector<std::uint8_t> none(all.size(), 0);
    EXPECT_EQ(valid({1, 0, 0, 0, 1, 0, 0, 0, 1}), all);
    EXPECT_EQ(valid({1, 0, 0, 0, 1, 0, 0, 0, -0.8F}), all);
    EXPECT_EQ(valid({1, 0, 0, 0, 1, 0, 0, 0, -0.9F}), none);
}

TEST(CoreProgram, RefusesBinsThatAReferenceModelHasNot) {
    const SmallReference model;
    const auto expect_refused = [&](std::int32_t TokenSpec::* bins, const std::string& reason) {
        TokenSpec tokens = model.tokens;
        ++(tokens.*bins);
        expect_throws<std::runtime_error>(
            [&] { (void)core_program(model.safetensors(), model.settings, tokens, Numbers::float32); },
            reason);
    };
    expect_refused(&TokenSpec::radius_bins, "radius_table has 20 bins, the tokens 21");
    expect_refused(&TokenSpec::angle_bins, "angle_table has 36 bins, the tokens 37");
    expect_refused(&TokenSpec::intensity_bins, "intensity_table has 8 bins, the tokens 9");
}
