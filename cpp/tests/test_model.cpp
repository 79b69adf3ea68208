#include "small_models.hpp"
#include "throws.hpp"

#include <microinfer/model.hpp>
#include <microinfer/thread_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace microinfer;
using namespace microinfer::tests;

namespace {

constexpr std::size_t kPatterns = 60;
const AnswerOptions kPlain{false, 0, nullptr};

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

bool is_clear(const Answered& found, std::size_t i) {
    return found.valid[i] &&
           (found.count == 1 || found.of(i)[0].probability - found.of(i)[1].probability > 0.02F);
}

/// Compares the first candidates where they are clear, `turned` by an angle; returns how many there are.
int expect_near(const Answered& found, const Answered& expected, float tolerance, float turned = 0.0F) {
    int compared = 0;
    for (std::size_t i = 0; i < expected.disks.size(); ++i) {
        if (!is_clear(expected, i)) {
            continue;
        }
        ++compared;
        const Candidate& one = *found.of(i);
        const Candidate& two = *expected.of(i);
        EXPECT_EQ(one.phase, two.phase) << "pattern " << i;
        EXPECT_NEAR(one.probability, two.probability, tolerance) << "pattern " << i;
        for (std::size_t r = 0; r < 3; ++r) {  // M Rz(turned)^T
            const float* const m = two.matrix.m[r];
            const float c = std::cos(turned);
            const float s = std::sin(turned);
            EXPECT_NEAR(one.matrix.m[r][0], m[0] * c - m[1] * s, tolerance) << "pattern " << i;
            EXPECT_NEAR(one.matrix.m[r][1], m[0] * s + m[1] * c, tolerance) << "pattern " << i;
            EXPECT_NEAR(one.matrix.m[r][2], m[2], tolerance) << "pattern " << i;
        }
    }
    return compared;
}

class BothModels : public testing::TestWithParam<const char*> {
  protected:
    SmallModel small_{GetParam()};
    const Model model_ = small_.model();
    const Patterns patterns_ = random_patterns(kPatterns, 3);
};

INSTANTIATE_TEST_SUITE_P(Model, BothModels, testing::Values("posterior", "reference"),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace

TEST_P(BothModels, AnAnswerDependsOnItsOwnPatternAlone) {
    const Answered whole = answer(model_, patterns_);
    const Answered backwards = answer(model_, {patterns_.rbegin(), patterns_.rend()});
    for (std::size_t i = 0; i < kPatterns; ++i) {
        const Answered alone = answer(model_, {patterns_[i]});
        EXPECT_TRUE(same(alone.of(0), whole.of(i), whole.count)) << "pattern " << i << " alone";
        EXPECT_TRUE(same(backwards.of(kPatterns - 1 - i), whole.of(i), whole.count)) << "pattern " << i;
        EXPECT_EQ(alone.valid[0], whole.valid[i]);
    }
}

TEST_P(BothModels, NoThreadCountChangesABit) {
    const auto with_threads = [&](int count) {
        const Threads threads(count);
        return answer(model_, patterns_);
    };
    const Answered one = with_threads(1);
    const Answered three = with_threads(3);
    for (std::size_t i = 0; i < kPatterns; ++i) {
        EXPECT_TRUE(same(one.of(i), three.of(i), one.count)) << "pattern " << i;
    }
}

TEST_P(BothModels, CandidatesAreRotationsRankedByProbabilityOrBlank) {
    for (const bool refine : {false, true}) {
        const Answered found = answer(model_, patterns_, {refine, 0, nullptr});
        std::size_t valid = 0;
        for (std::size_t i = 0; i < kPatterns; ++i) {
            valid += found.valid[i] ? 1 : 0;
            double sum = 0.0;
            for (std::int64_t k = 0; k < found.count; ++k) {
                const Candidate& candidate = found.of(i)[k];
                sum += candidate.probability;
                if (candidate.phase < 0) {
                    EXPECT_FALSE(found.valid[i] && k == 0);
                    EXPECT_TRUE(std::isnan(candidate.matrix.m[1][1]) && std::isnan(candidate.score));
                    EXPECT_EQ(candidate.probability, 0.0F);
                    continue;
                }
                EXPECT_LT(candidate.phase, 2);
                EXPECT_TRUE(k < 1 || refine || candidate.probability <= found.of(i)[k - 1].probability);
                EXPECT_TRUE(refine ? k > 0 || candidate.score >= 0.0F : std::isnan(candidate.score));
                const Matrix3<float> product = multiply(candidate.matrix, transposed(candidate.matrix));
                for (std::size_t j = 0; j < 9; ++j) {
                    EXPECT_NEAR(product.m[j / 3][j % 3], j % 4 == 0 ? 1.0F : 0.0F, 1e-5F);
                }
            }
            EXPECT_LE(sum, 1.0 + 1e-5);
            EXPECT_TRUE(found.disks[i] >= 2 || !found.valid[i]);
        }
        EXPECT_GT(valid, kPatterns / 3);
        EXPECT_LT(valid, kPatterns);
    }
}

TEST_P(BothModels, AnswersThatAreNotAskedForAreBlank) {
    const auto selected = std::make_unique<bool[]>(kPatterns);
    for (std::size_t i = 0; i < kPatterns; ++i) {
        selected[i] = i % 3 == 0;
    }
    const Answered all = answer(model_, patterns_);
    const Answered some = answer(model_, patterns_, {true, 9, selected.get()});
    for (std::size_t i = 0; i < kPatterns; ++i) {
        const bool asked = i % 3 == 0 && all.disks[i] >= 9;
        EXPECT_EQ(some.disks[i], all.disks[i]);
        EXPECT_EQ(some.valid[i], asked && all.valid[i]);
        EXPECT_TRUE(asked ? same(some.of(i), all.of(i), all.count) : some.of(i)->phase == -1);
    }
    EXPECT_TRUE(answer(model_, {}).candidates.empty());
    expect_throws<std::invalid_argument>([&] { answer(model_, patterns_, {true, -1, nullptr}); },
                                         "min_disks must be at least 0, got -1");
    expect_throws<std::invalid_argument>([&] { answer(model_, patterns_, {true, 31, nullptr}); },
                                         "min_disks must");
}

TEST_P(BothModels, APatternWithANumberThatIsNoneHasNoAnswer) {
    Patterns patterns = random_patterns(20, 4);
    patterns[5][1].qy = std::numeric_limits<float>::quiet_NaN();
    patterns[6][0].intensity = std::numeric_limits<float>::infinity();
    const Answered found = answer(model_, patterns);
    EXPECT_FALSE(found.valid[5] || found.valid[6]);
}

TEST_P(BothModels, InstructionSetsAgree) {
    const Answered baseline = answer(small_.model({false, "baseline"}), patterns_, kPlain);
    for (const std::string& instructions : instruction_sets()) {
        SCOPED_TRACE(instructions);
        EXPECT_GT(
            expect_near(answer(small_.model({false, instructions}), patterns_, kPlain), baseline, 1e-3F), 10);
    }
    expect_throws<std::invalid_argument>([&] { (void)small_.model({false, "neon"}); }, "got 'neon'");
    expect_throws<std::invalid_argument>([&] { (void)small_.model({true, "baseline"}); },
                                         "does not multiply bfloat16");
}

TEST_P(BothModels, Bfloat16AnswersAreNearThoseOfFloat32) {
    if (!multiplies_bfloat16()) {
        GTEST_SKIP() << "this CPU does not multiply bfloat16";
    }
    const Answered halves = answer(small_.model({true, "auto"}), patterns_, kPlain);
    const Answered whole = answer(model_, patterns_, kPlain);
    std::size_t near = 0;
    std::size_t clear = 0;
    for (std::size_t i = 0; i < kPatterns; ++i) {
        if (is_clear(whole, i)) {
            ++clear;
            const Matrix3<float> turn = multiply(transposed(whole.of(i)->matrix), halves.of(i)->matrix);
            near += halves.valid[i] && trace(turn) > 1.0F + 2.0F * std::cos(0.2F) ? 1 : 0;
        }
    }
    EXPECT_GT(near, clear * 2 / 3);
}

TEST_P(BothModels, RankIsWhatAnswerEndsWith) {
    small_.header["calibration"] = {1.5, 1.2, -0.3};
    const Model calibrated = small_.model();
    const PeakList list = list_of(patterns_);
    const RaggedPeaks peaks = list.view();
    const std::size_t size = kPatterns * 30;
    std::vector<float> radius(size), angle(size), intensity(size);
    std::vector<std::int32_t> bins(3 * size), count(kPatterns);
    const auto mask = std::make_unique<bool[]>(size);
    const auto valid = std::make_unique<bool[]>(kPatterns);
    tokenize(peaks, calibrated.info().tokens,
             {radius.data(), angle.data(), intensity.data(), bins.data(), bins.data() + size,
              bins.data() + 2 * size, mask.get(), count.data(), valid.get(), 30});
    const PaddedDisks disks{radius.data(), angle.data(), intensity.data(), nullptr, nullptr,
                            nullptr,       count.data(), kPatterns,        30};
    const Answered network =
        answer(model_, patterns_, kPlain);  // calibrated by slope 1 and offset 0: as it is
    std::vector<float> matrix, probability;
    std::vector<std::int64_t> phase;
    for (const Candidate& candidate : network.candidates) {
        matrix.insert(matrix.end(), candidate.matrix.m[0], candidate.matrix.m[0] + 9);
        probability.push_back(candidate.probability);
        phase.push_back(std::max<std::int64_t>(candidate.phase, 0));
    }
    for (const bool refine : {false, true}) {
        std::vector<Candidate> ranked(phase.size());
        calibrated.rank(disks, {matrix.data(), phase.data(), probability.data()}, refine,
                        {ranked.data(), nullptr, nullptr});
        Answered found = answer(calibrated, patterns_, {refine, 0, nullptr});
        const Answered expected = answer(calibrated, patterns_, {refine, 0, nullptr});
        found.candidates = ranked;
        EXPECT_GT(expect_near(found, expected, 1e-4F), 10);
    }
    phase[7] = 2;
    expect_throws<std::invalid_argument>(
        [&] { calibrated.rank(disks, {matrix.data(), phase.data(), probability.data()}, true, {}); },
        "phase must be one of the model's, got 2");
}

TEST_P(BothModels, EveryMissingArrayIsNamed) {
    for (const auto& [name, array] : small_.arrays()) {
        NamedArrays arrays = small_.arrays();
        arrays.erase(name);
        expect_throws<std::invalid_argument>([&] { Model(small_.header.dump(), arrays); },
                                             "the model has no array " + name);
    }
}

TEST_P(BothModels, DeepHeaderIsRefused) {
    const std::string deep = std::string(300'000, '[') + std::string(300'000, ']');
    small_.header["card"]["name"] = "here";
    std::string header = small_.header.dump();
    header.replace(header.find("\"here\""), 6, deep);
    expect_throws<std::invalid_argument>([&] { Model(header, small_.arrays()); },
                                         "JSON of more than 64 levels");
}

TEST_P(BothModels, EveryArrayOfAnotherSizeIsNamed) {
    for (const auto& [name, array] : small_.arrays()) {
        NamedArrays arrays = small_.arrays();
        arrays[name].shape.push_back(1);
        expect_throws<std::invalid_argument>([&] { Model(small_.header.dump(), arrays); },
                                             name + " does not fit the other arrays, got shape (");
    }
}

TEST_P(BothModels, ArraysThatCannotBeUsedAreNamed) {
    const auto expect_refused = [&](const std::string& name, const ArrayView& array,
                                    const std::string& reason) {
        NamedArrays arrays = small_.arrays();
        arrays[name] = array;
        expect_throws<std::invalid_argument>([&] { Model(small_.header.dump(), arrays); }, reason);
    };
    const std::vector<float> bad(24, std::nanf(""));
    const std::vector<std::int64_t> whole(24, 2);
    expect_refused("blocks.1.norm1.bias", {bad.data(), {24}}, "blocks.1.norm1.bias holds NaN or infinity");
    expect_refused("blocks.1.norm1.bias", {whole.data(), {24}}, "blocks.1.norm1.bias must hold float32");
    expect_refused("other", {bad.data(), {24}}, "the model has an array other that the core does not know");
    if (GetParam() == std::string("posterior")) {
        expect_refused("cell_phase", {whole.data(), {14}}, "cell_phase must lie in [0, 2)");
        expect_refused("cell_phase", {bad.data(), {14}}, "cell_phase must hold int64");
    }
}

TEST_P(BothModels, SumsThatOverflowGivePhasesOfTheModelOrNone) {
    for (float& weight : small_.floats["blocks.0.attention.qkv.weight"].elements) {
        weight *= 3e19F;  // some products are infinite then, and some sums no numbers
    }
    for (const std::string& instructions : instruction_sets()) {
        const Answered found = answer(small_.model({false, instructions}), patterns_);
        for (std::size_t i = 0; i < kPatterns; ++i) {
            EXPECT_TRUE(!found.valid[i] || (found.of(i)->phase >= 0 && found.of(i)->phase < 2))
                << instructions;
            EXPECT_NE(found.valid[i], std::isnan(found.of(i)->matrix.m[0][0])) << instructions;
        }
    }
}

TEST_P(BothModels, BadHeadersAreNamed) {
    const auto expect_refused = [&](const char* place, const json& value, const std::string& reason) {
        json header = small_.header;
        header[json::json_pointer(place)] = value;
        expect_throws<std::invalid_argument>([&] { Model(header.dump(), small_.arrays()); }, reason);
    };
    expect_refused("/format", "other", "it is no checkpoint of microinfer");
    expect_refused("/version", 1, "older version: write it anew in Python");
    expect_refused("/version", 3, "newer version, this microinfer reads version, got 2");
    expect_refused("/version", 4294967298, "version: a whole number in range was expected, got 4294967298");
    expect_refused("/model/kind", "forest", "model.kind must be posterior or reference, got forest");
    expect_refused("/model/heads", 5, "the width 24 must be a multiple of twice the heads, got 5");
    expect_refused("/model/heads", std::int64_t{1} << 62, "twice the heads");
    expect_refused("/model/width", 16384, "model.width is 16384, but norm");
    expect_refused("/model/width", 12, "model.width is 12, but norm");
    expect_refused("/model/blocks", 1'000'000, "the model has no array blocks.2.norm1.weight");
    expect_refused("/model/blocks", 1, "the model has an array blocks.1.");
    expect_refused("/model/blocks", 0, "model.width, blocks and channels must be at least 1");
    expect_refused("/model/heads", 2.0, "heads: a whole number in range was expected, got 2.0");
    expect_refused("/tokens/max_disks", 4294967297, "max_disks: a whole number in range was expected");
    expect_refused("/tokens/max_disks", -1, "max_disks must be at least 1, got -1");
    expect_refused("/tokens/radius_max", "2", "its header cannot be read");
    expect_refused("/calibration", {1.0}, "a list of 3 numbers was expected, got [1.0]");
    expect_refused("/phases", json::array(), "a model has one phase or more");
    expect_refused("/phases/0/lattice", {4, 4, 4, 90, 90}, "a list of 6 numbers was expected");
    expect_refused("/phases/0/lattice", {4, 4, 4, 90, 90, 190}, "a lattice that no unit cell has");
    expect_refused("/phases/0/lattice", {4, 4, 0, 90, 90, 90}, "a lattice that no unit cell has");
    expect_refused("/phases/0/operators", json::array(), "has no operators");
    expect_refused("/phases/0/reflections/3", {1, 1, 1}, "a list of 4 numbers was expected");
    expect_refused("/card/voltage", -1.0, "card.voltage must be that of an electron microscope");
    expect_refused("/card/voltage", 1e20, "card.voltage must be that of an electron microscope");
    expect_refused("/card/k_max", 0.0, "card.k_max must be above 0 and below 100 1/Angstrom, got 0");
    expect_refused("/card/k_max", json(), "card.k_max must be a number, got null");
    json header = small_.header;
    header.erase("tokens");
    expect_throws<std::invalid_argument>([&] { Model(header.dump(), small_.arrays()); },
                                         "key 'tokens' not found");
    expect_throws<std::invalid_argument>([&] { Model("{", small_.arrays()); }, "its header cannot be read");
}

TEST(Model, ATurnedPatternHasTheTurnedAnswer) {
    constexpr float turn = 0.7F;
    const Model model = SmallModel("posterior").model();
    const Patterns patterns = random_patterns(kPatterns, 3);
    Patterns turned = patterns;
    for (auto& peaks : turned) {
        for (Peak& peak : peaks) {
            peak = {peak.qx * std::cos(turn) - peak.qy * std::sin(turn),
                    peak.qx * std::sin(turn) + peak.qy * std::cos(turn), peak.intensity};
        }
    }
    EXPECT_GT(expect_near(answer(model, turned, kPlain), answer(model, patterns, kPlain), 5e-3F, turn), 10);
}

TEST(Model, SaysWhatItsHeaderSays) {
    const SmallModel small("posterior");
    const Model model = small.model();
    const ModelInfo& info = model.info();
    EXPECT_EQ(info.name, "small");
    EXPECT_EQ(info.voltage, 3e5);
    EXPECT_EQ(info.k_max, 2.0);
    EXPECT_EQ(info.tokens.max_disks, 30);
    ASSERT_EQ(info.phases.size(), 2U);
    EXPECT_EQ(info.phases[0].name, "c\u00fc");
    EXPECT_EQ(info.phases[0].operators[1].m[1][1], -1.0);
    EXPECT_EQ(info.phases[1].lattice[4], 100.0);
    EXPECT_EQ(model_info(small.header.dump()).phases[0].reflections.size(), 342U);
}

TEST(Model, NeedsItsVoltageAndReflectionsToRefine) {
    for (const char* const place : {"/card/voltage", "/phases/1/reflections"}) {
        SmallModel small("posterior");
        small.header[json::json_pointer(place)] = place[1] == 'c' ? json() : json::array();
        const Model model = small.model();
        EXPECT_FALSE(model.can_refine());
        (void)answer(model, random_patterns(20, 1), kPlain);
        expect_throws<std::invalid_argument>([&] { (void)answer(model, random_patterns(20, 1)); },
                                             "the model states no voltage, or no reflections");
    }
}
