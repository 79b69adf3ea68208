#include "throws.hpp"

#include <microinfer/cuda.hpp>
#include <microinfer/thread_pool.hpp>
#include <microinfer/tokenizer.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

using namespace microinfer;
using microinfer::tests::expect_throws;

namespace {

constexpr TokenSpec kSpec = {2.99F, 256, 360, 1e-3F, 64, 0.05F, 76, 2};

/// Bragg peaks that own their memory.
struct Scan {
    std::vector<float> qx, qy, intensity;
    std::vector<std::int64_t> offsets{0};

    void add(const std::vector<Peak>& pattern) {
        for (const Peak& peak : pattern) {
            qx.push_back(peak.qx);
            qy.push_back(peak.qy);
            intensity.push_back(peak.intensity);
        }
        offsets.push_back(static_cast<std::int64_t>(qx.size()));
    }

    [[nodiscard]] RaggedPeaks view() const {
        return {qx.data(),
                qy.data(),
                intensity.data(),
                offsets.data(),
                static_cast<std::int64_t>(offsets.size()) - 1,
                static_cast<std::int64_t>(qx.size())};
    }
};

/// Tokens that own their memory.
struct Result {
    Result(std::int64_t patterns, std::int64_t length)
        : size(static_cast<std::size_t>(patterns * length)),
          features(3 * size, -1.0F),
          bins(3 * size, -1),
          mask(std::make_unique<bool[]>(size)),
          count(static_cast<std::size_t>(patterns), -1),
          valid(std::make_unique<bool[]>(static_cast<std::size_t>(patterns))),
          view{features.data(), features.data() + size, features.data() + 2 * size,
               bins.data(),     bins.data() + size,     bins.data() + 2 * size,
               mask.get(),      count.data(),           valid.get(),
               length} {}

    std::size_t size;
    std::vector<float> features;
    std::vector<std::int32_t> bins;
    std::unique_ptr<bool[]> mask;
    std::vector<std::int32_t> count;
    std::unique_ptr<bool[]> valid;
    TokenArrays view;
};

}  // namespace

TEST(Tokenizer, APatternBecomesTokensByTheRule) {
    Scan scan;
    scan.add({{0.01F, 0.0F, 1e6F},   // the direct beam
              {0.0F, 1.0F, 2.0F},    // the second strongest
              {-1.0F, -0.0F, 4.0F},  // the strongest, at an angle of pi
              {3.0F, 0.0F, 9.0F},    // out of range
              {1.0F, 0.0F, 0.001F},  // too weak
              {0.5F, 0.0F, -1.0F}});
    scan.add({});
    Result tokens(2, 3);
    tokenize(scan.view(), kSpec, tokens.view);
    EXPECT_EQ(tokens.count[0], 2) << "disks";
    EXPECT_EQ(tokens.count[1], 0) << "disks of an empty pattern";
    EXPECT_TRUE(tokens.valid[0] && !tokens.valid[1]) << "validity";
    EXPECT_EQ(tokens.view.radius[0], 1.0F) << "radius";
    EXPECT_EQ(tokens.view.angle[0], 3.14159265F) << "angle";
    EXPECT_EQ(tokens.view.angle_bin[0], 0) << "bin of pi";
    EXPECT_EQ(tokens.view.angle_bin[1], 270) << "bin of pi / 2";
    EXPECT_EQ(tokens.view.radius_bin[0], 85) << "radial bin";
    EXPECT_EQ(tokens.view.intensity[1], 0.5F) << "relative intensity";
    EXPECT_EQ(tokens.view.intensity_bin[0], 63) << "bin of the strongest";
    EXPECT_TRUE(tokens.mask[0] && tokens.mask[1] && !tokens.mask[2]) << "mask";
    EXPECT_EQ(tokens.view.radius[2], 0.0F) << "padding";
    EXPECT_EQ(tokens.view.intensity_bin[5], 0) << "padding of an empty pattern";
}

TEST(Tokenizer, EqualIntensitiesAreOrderedByPosition) {
    Scan scan;
    scan.add({{1.0F, 0.5F, 1.0F},
              {0.5F, 2.0F, 1.0F},
              {1.0F, -0.5F, 1.0F},
              {-1.0F, 0.0F, 0.5F},
              {0.2F, 0.0F, 2.0F}});
    Result tokens(1, 5);
    tokenize(scan.view(), kSpec, tokens.view);
    const float angles[] = {std::atan2(2.0F, 0.5F), std::atan2(-0.5F, 1.0F), std::atan2(0.5F, 1.0F)};
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(std::abs(tokens.view.angle[i + 1] - angles[i]) < 1e-6F)
            << "order of disk " + std::to_string(i + 1);
    }
}

TEST(Tokenizer, BinsStayInRangeForAnyFinitePeak) {
    std::mt19937_64 random(std::random_device{}());
    std::uniform_int_distribution<std::uint32_t> bits;
    Scan scan;
    for (int pattern = 0; pattern < 2000; ++pattern) {
        std::vector<Peak> peaks;
        for (int i = 0; i < 20; ++i) {
            const auto any = [&] { return std::bit_cast<float>(bits(random)); };
            const Peak peak = {any(), any(), any()};
            if (is_finite(peak)) {
                peaks.push_back(peak);
            }
        }
        scan.add(peaks);
    }
    Result tokens(2000, 20);
    tokenize(scan.view(), kSpec, tokens.view);
    for (std::size_t i = 0; i < tokens.size; ++i) {
        const bool inside = tokens.view.radius_bin[i] >= 0 && tokens.view.radius_bin[i] < 256 &&
                            tokens.view.angle_bin[i] >= 0 && tokens.view.angle_bin[i] < 360 &&
                            tokens.view.intensity_bin[i] >= 0 && tokens.view.intensity_bin[i] < 64;
        EXPECT_TRUE(inside) << "a bin is out of range";
    }
}

TEST(Tokenizer, CountsAreThoseOfTheTokens) {
    std::mt19937 random(std::random_device{}());
    std::uniform_real_distribution<float> coordinate(-3.5F, 3.5F);
    std::exponential_distribution<float> brightness(0.3F);
    Scan scan;
    for (int pattern = 0; pattern < 500; ++pattern) {
        std::vector<Peak> peaks;
        for (int i = 0; i < pattern; ++i) {
            peaks.push_back({coordinate(random), coordinate(random), brightness(random)});
        }
        scan.add(peaks);
    }
    Result tokens(500, 80);
    std::vector<std::int32_t> count(500);
    for (const int threads : {1, 3}) {
        set_num_threads(threads);
        count_disks(scan.view(), kSpec, count.data());
        tokenize(scan.view(), kSpec, tokens.view);
        EXPECT_TRUE(count == tokens.count) << "counts differ";
        EXPECT_EQ(*std::max_element(count.begin(), count.end()), 76) << "the most disks";
    }
}

TEST(Tokenizer, ABuildWithoutCudaSaysHowToGetIt) {
    if (cuda::is_built()) {
        GTEST_SKIP() << "built with CUDA";
    }
    const Scan scan;
    expect_throws<std::runtime_error>([&] { cuda::count_disks(scan.view(), kSpec, nullptr, {0, 0}); },
                                      "MICROINFER_CUDA=ON");
}
