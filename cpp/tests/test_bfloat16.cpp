/// Linear maps of bfloat16 numbers: exact sums, and gelu that every arithmetic rounds alike.
#include "linear.hpp"

#include <microinfer/network.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <random>
#include <vector>

using namespace microinfer;
using namespace microinfer::networks;

namespace {

class Bfloat16Products : public testing::Test {
  protected:
    void SetUp() override {
        if (!multiplies_bfloat16()) {
            GTEST_SKIP() << "this CPU has no bfloat16 instructions";
        }
    }

    std::vector<float> normal(std::int64_t elements, float scale) {
        std::vector<float> values(size(elements));
        std::normal_distribution<float> distribution(0.0F, scale);
        std::generate(values.begin(), values.end(), [&] { return distribution(generator_); });
        return values;
    }

    /// Row by row, W x + b with the inputs in the given order.
    std::vector<float> products(const std::vector<std::int64_t>& order, const std::vector<float>& weight,
                                const std::vector<float>& x, std::int64_t rows) const {
        const auto inputs = static_cast<std::int64_t>(order.size());
        const auto outputs = static_cast<std::int64_t>(weight.size()) / inputs;
        const auto place = [&](std::int64_t row, std::int64_t i) {
            return size(row * inputs + order[size(i)]);
        };
        const Linear map(
            kernels("auto", Numbers::bfloat16), Numbers::bfloat16, outputs, inputs,
            [&](std::int64_t o, std::int64_t i) { return weight[place(o, i)]; },
            [](std::int64_t o) { return 0.1F * static_cast<float>(o); });
        std::vector<float> turned;
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t i = 0; i < inputs; ++i) {
                turned.push_back(x[place(r, i)]);
            }
        }
        std::vector<float> y(size(rows * map.columns()));
        map(turned.data(), inputs, rows, y.data(), map.columns());
        return y;
    }

    void expect_same_in_any_order(std::int64_t inputs, const std::vector<float>& weight,
                                  const std::vector<float>& x) {
        const auto rows = static_cast<std::int64_t>(x.size()) / inputs;
        std::vector<std::int64_t> order(size(inputs));
        std::iota(order.begin(), order.end(), 0);
        const auto straight = products(order, weight, x, rows);
        std::shuffle(order.begin(), order.end(), generator_);
        EXPECT_EQ(products(order, weight, x, rows), straight);
    }

    std::mt19937 generator_{5};
};

TEST_F(Bfloat16Products, DoNotDependOnTheOrderOfSumming) {
    for (const std::int64_t inputs : {1, 37, 128, 384, 1000}) {
        expect_same_in_any_order(inputs, normal(40 * inputs, 0.05F), normal(25 * inputs, 3.0F));
    }
}

TEST_F(Bfloat16Products, DoNotDependOnTheOrderWhereSumsAreLarge) {
    std::uniform_real_distribution<float> distribution;
    const auto positive = [&](std::int64_t elements) {
        std::vector<float> values(size(elements));
        std::generate(values.begin(), values.end(), [&] {
            const float root = distribution(generator_);
            return 1.4F * root * root;  // of sums that float32 holds in halves alone
        });
        return values;
    };
    for (const std::int64_t inputs : {128, 386}) {
        expect_same_in_any_order(inputs, positive(40 * inputs), positive(25 * inputs));
    }
}

TEST_F(Bfloat16Products, AreNearThoseOfFloat32) {
    const std::int64_t inputs = 256;
    const auto weight = normal(inputs, 0.1F);
    const auto x = normal(inputs, 2.0F);
    std::vector<std::int64_t> order(size(inputs));
    std::iota(order.begin(), order.end(), 0);
    double exact = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        exact += double{weight[i]} * double{x[i]};
    }
    // 256 products of 0.2, each to 2^-8 or better
    EXPECT_NEAR(products(order, weight, x, 1)[0], exact, 16.0 * 0.2 * 0x1p-8);
}

TEST_F(Bfloat16Products, RoundGeluAsFloat64Does) {
    const Linear identity(
        kernels("auto", Numbers::bfloat16), Numbers::bfloat16, 1, 1,
        [](std::int64_t, std::int64_t) { return 1.0F; }, [](std::int64_t) { return 0.0F; });
    std::vector<float> y(size(identity.columns()));
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float x = widened(static_cast<Bfloat16>(bits));
        if (!(std::abs(x) > 1e-12F && std::abs(x) < 1e4F)) {
            continue;
        }
        identity(&x, 1, 1, y.data(), identity.columns(), Epilogue::gelu);
        const double gelu = 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
        EXPECT_EQ(rounded(y[0]), rounded(x < kGeluTail ? 0.0F : static_cast<float>(gelu))) << x;
    }
}

}  // namespace
