#include "detection/transform.hpp"
#include "throws.hpp"

#include <microinfer/detection.hpp>
#include <microinfer/thread_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <memory>
#include <numbers>
#include <random>
#include <vector>

using namespace microinfer;
using microinfer::tests::expect_throws;

namespace {

using Complex = std::complex<float>;

constexpr DiskSpec kSpec = {2.0F, 2.5F, 4.0F, 0.0F, 1.0F, 0.0F,          0.0F,
                            0.0F, 0,    0.0F, 100,  1.0F, Subpixel::none};

/// A detector that correlates with a kernel given in Fourier space, and owns what it was made of.
struct Example {
    Example(std::int64_t r, std::int64_t c, float lowest = 0.0F)
        : rows(r),
          columns(c),
          padded_rows(transform_length(r)),
          padded_columns(transform_length(c)),
          floor(static_cast<std::size_t>(r * c), lowest),
          good(std::make_unique<bool[]>(static_cast<std::size_t>(r * c))),
          kernel(static_cast<std::size_t>(padded_rows * padded_columns), Complex(1.0F, 0.0F)) {
        std::fill_n(good.get(), r * c, true);
    }

    [[nodiscard]] std::unique_ptr<DiskDetector> detector(const DiskSpec& spec = kSpec) const {
        const FrameLayout layout = {rows, columns, floor.data(), good.get(), fill_count, fill.data()};
        return std::make_unique<DiskDetector>(
            layout, KernelView{padded_rows, padded_columns, kernel.data(), nullptr}, spec);
    }

    std::int64_t rows, columns, padded_rows, padded_columns;
    std::vector<float> floor;
    std::unique_ptr<bool[]> good;
    std::vector<Complex> kernel;
    std::int64_t fill_count = 0;
    std::vector<std::int64_t> fill;
};

std::vector<float> noise(std::int64_t size, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(size));
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    return values;
}

}  // namespace

TEST(Transform, EveryLengthAgreesWithTheSum) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const std::int64_t n : {1, 2, 3, 4, 5, 6, 8, 9, 10, 15, 16, 25, 30, 64, 90, 100}) {
        const detection::Plan plan(n);
        const auto size = static_cast<std::size_t>(n * detection::kPanel);
        struct alignas(64) Line {
            float value[detection::kPanel];
        };
        std::vector<Line> buffers(static_cast<std::size_t>(4 * n));
        auto* const memory = reinterpret_cast<float*>(buffers.data());
        std::generate_n(memory, 2 * size, [&] { return normal(random); });
        const std::vector<float> input(memory, memory + 2 * size);
        detection::Panel panel = {memory, memory + size, memory + 2 * size, memory + 3 * size};
        detection::transforms().columns(plan, panel);
        for (std::int64_t k = 0; k < n; ++k) {
            for (std::int64_t lane = 0; lane < detection::kPanel; ++lane) {
                std::complex<double> expected = 0.0;
                for (std::int64_t t = 0; t < n; ++t) {
                    const auto at = static_cast<std::size_t>(t * detection::kPanel + lane);
                    const double angle =
                        -2.0 * std::numbers::pi * static_cast<double>(k * t) / static_cast<double>(n);
                    expected += std::complex<double>(input[at], input[size + at]) *
                                std::complex<double>(std::cos(angle), std::sin(angle));
                }
                const std::int64_t at = k * detection::kPanel + lane;
                EXPECT_NEAR(panel.re[at], expected.real(), 1e-5 * std::sqrt(n) + 1e-5);
                EXPECT_NEAR(panel.im[at], expected.imag(), 1e-5 * std::sqrt(n) + 1e-5);
            }
        }
    }
    EXPECT_EQ(transform_length(7), 8);
    EXPECT_EQ(transform_length(515), 540);
    expect_throws<std::invalid_argument>([] { detection::Plan(7); }, "a product of 2, 3 and 5, got 7");
}

TEST(DiskDetector, TheKernelOneGivesTheFramesBack) {
    for (const auto& [rows, columns] :
         {std::pair<std::int64_t, std::int64_t>{16, 32}, {7, 19}, {33, 48}, {1, 1}}) {
        const Example example(rows, columns);
        const std::vector<float> frames = noise(5 * rows * columns, 2);
        std::vector<float> out(frames.size());
        example.detector()->correlate(frames.data(), 1, 5, out.data());
        for (std::size_t i = 0; i < out.size(); ++i) {
            EXPECT_NEAR(out[i], frames[i], 1e-5);
        }
    }
}

TEST(DiskDetector, AShiftMovesAPixel) {
    Example example(16, 20);
    for (std::int64_t i = 0; i < 16; ++i) {
        for (std::int64_t j = 0; j < 20; ++j) {  // correlation with a pixel at (2, 3): f(x + 2, y + 3)
            const auto angle =
                static_cast<float>(2.0 * std::numbers::pi *
                                   (2.0 * static_cast<double>(i) / 16 + 3.0 * static_cast<double>(j) / 20));
            example.kernel[static_cast<std::size_t>(i * 20 + j)] = {std::cos(angle), std::sin(angle)};
        }
    }
    std::vector<std::uint16_t> frames(3 * 320);
    frames[320 + 9 * 20 + 11] = 7;  // of the second of a pair
    std::vector<float> out(frames.size());
    example.detector()->correlate(frames.data(), 1, 3, out.data());
    for (std::size_t i = 0; i < out.size(); ++i) {
        EXPECT_NEAR(out[i], i == 320 + 7 * 20 + 8 ? 7.0F : 0.0F, 1e-5);
    }
}

TEST(DiskDetector, MaximaAreOrderedSpacedAndFewEnough) {
    const Example example(24, 24, 0.5F);
    std::vector<float> frame(24 * 24);
    const auto set = [&](int x, int y, float value) { frame[static_cast<std::size_t>(x * 24 + y)] = value; };
    set(0, 0, 3.0F);
    set(10, 10, 9.0F);
    set(10, 14, 8.0F);
    set(20, 4, 0.4F);  // below the floor
    set(15, 15, 5.0F);
    set(15, 16, 5.0F);  // a plateau: its first pixel alone
    const auto found = [&](const DiskSpec& spec) {
        return example.detector(spec)->find(frame.data(), 1, 1, frame.data()).disks;
    };
    DiskSpec spec = kSpec;
    std::vector<Disk> disks = found(spec);
    ASSERT_EQ(disks.size(), 4U);
    EXPECT_EQ(disks[0].correlation, 9.0F);
    EXPECT_EQ(disks[1].correlation, 8.0F);
    EXPECT_EQ(disks[2].x, 15.0F);
    EXPECT_EQ(disks[2].y, 15.0F);
    EXPECT_EQ(disks[3].x, 0.0F);
    spec.min_spacing = 4.5F;
    EXPECT_EQ(found(spec).size(), 3U);
    spec.min_relative = 0.5F;
    EXPECT_EQ(found(spec).size(), 2U);
    spec.relative_to = 1;
    spec.min_relative = 0.6F;
    EXPECT_EQ(found(spec).size(), 2U);
    spec.max_disks = 1;
    disks = found(spec);
    ASSERT_EQ(disks.size(), 1U);
    EXPECT_EQ(disks[0].y, 10.0F);
    // the disk's one count, less nothing around
    EXPECT_FLOAT_EQ(disks[0].intensity, 9.0F - 13.0F * disks[0].background);
}

TEST(DiskDetector, MaximaLieBetweenPixels) {
    const Example example(32, 32, 0.1F);
    DiskSpec spec = kSpec;
    for (const auto& [subpixel, error] :
         {std::pair{Subpixel::parabola, 0.2F}, {Subpixel::interpolation, 0.01F}}) {
        spec.subpixel = subpixel;
        const auto detector = example.detector(spec);
        for (float x = 14.55F; x < 15.5F; x += 0.1F) {
            for (float y = 16.55F; y < 17.5F; y += 0.1F) {
                std::vector<float> frame(32 * 32);
                for (int i = 0; i < 32; ++i) {
                    for (int j = 0; j < 32; ++j) {
                        const float dx = static_cast<float>(i) - x;
                        const float dy = static_cast<float>(j) - y;
                        frame[static_cast<std::size_t>(i * 32 + j)] =
                            std::exp(-0.2F * (dx * dx + dy * dy + 0.6F * dx * dy));
                    }
                }
                const FoundDisks found = detector->find(frame.data(), 1, 1, frame.data());
                ASSERT_EQ(found.disks.size(), 1U);
                EXPECT_NEAR(found.disks[0].x, x, error);
                EXPECT_NEAR(found.disks[0].y, y, error);
            }
        }
    }
}

TEST(DiskDetector, PixelsThatDoNotCountAreFilled) {
    Example example(12, 12, -1.0F);
    example.good[5 * 12 + 5] = false;
    example.floor[5 * 12 + 5] = std::numeric_limits<float>::infinity();
    example.fill_count = 2;
    example.fill = {5 * 12 + 4, 5 * 12 + 6};
    std::vector<double> frame(144, 1.0);
    frame[5 * 12 + 5] = std::numeric_limits<double>::quiet_NaN();
    frame[5 * 12 + 4] = 3.0;
    const auto detector = example.detector();
    std::vector<float> out(144);
    detector->correlate(frame.data(), 1, 1, out.data());
    EXPECT_NEAR(out[5 * 12 + 5], 2.0F, 1e-5);
    const FoundDisks found = detector->find(frame.data(), 1, 1);
    ASSERT_GE(found.disks.size(), 1U);
    EXPECT_FLOAT_EQ(found.disks[0].background, 1.0F);
    EXPECT_NEAR(found.disks[0].intensity, 2.0F + 1.0F, 1e-5);
    frame[0] = std::numeric_limits<double>::infinity();
    EXPECT_THROW(static_cast<void>(detector->find(frame.data(), 1, 1)), NotFinite);
    example.fill = {5 * 12 + 5, 0};
    expect_throws<std::invalid_argument>([&] { static_cast<void>(example.detector()); },
                                         "fill must name pixels that count");
}

TEST(DiskDetector, ThreadsAndPairsChangeNothing) {
    const Example example(30, 40, 0.5F);
    DiskSpec spec = kSpec;
    spec.subpixel = Subpixel::interpolation;
    const auto detector = example.detector(spec);
    const std::vector<float> frames = noise(21 * 1200, 5);
    const int before = num_threads();
    set_num_threads(1);
    const FoundDisks one = detector->find(frames.data(), 3, 7);
    set_num_threads(3);
    const FoundDisks three = detector->find(frames.data(), 3, 7);
    set_num_threads(before);
    EXPECT_EQ(one.offsets, three.offsets);
    ASSERT_EQ(one.disks.size(), three.disks.size());
    for (std::size_t i = 0; i < one.disks.size(); ++i) {
        EXPECT_EQ(one.disks[i].x, three.disks[i].x);
        EXPECT_EQ(one.disks[i].intensity, three.disks[i].intensity);
    }
    const FoundDisks last = detector->find(frames.data() + 14 * 1200, 1, 7);  // the last scan row on its own
    for (std::size_t i = 0; i < last.disks.size(); ++i) {
        const Disk& same = one.disks[static_cast<std::size_t>(one.offsets[14]) + i];
        EXPECT_EQ(last.disks[i].x, same.x);
        EXPECT_EQ(last.disks[i].correlation, same.correlation);
    }
}
