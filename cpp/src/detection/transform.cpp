#include "transform.hpp"

#include "../require.hpp"

#include <array>
#include <cmath>
#include <numbers>

namespace microinfer::detection {

extern const Transforms transforms_baseline;
#ifdef MICROINFER_X86
extern const Transforms transforms_avx2;
extern const Transforms transforms_avx512;
#endif

namespace {

/// Divides `length` by 4, 2, 3 and 5 as often as it goes; returns what is left.
std::int64_t factors(std::int64_t length, std::vector<std::int32_t>& radices) {
    for (const std::int32_t radix : {4, 2, 3, 5}) {
        while (length % radix == 0) {
            radices.push_back(radix);
            length /= radix;
        }
    }
    return length;
}

}  // namespace

Plan::Plan(std::int64_t size) : length(size) {
    require(size >= 1, "the length of a transform must be at least 1", size);
    require(factors(size, radices) == 1, "the length of a transform must be a product of 2, 3 and 5", size);
    std::int64_t done = 1;
    for (const std::int32_t radix : radices) {
        for (std::int64_t j = 0; j < done; ++j) {
            for (std::int32_t q = 1; q < radix; ++q) {
                const double angle =
                    -2.0 * std::numbers::pi * static_cast<double>(j * q) / static_cast<double>(done * radix);
                twiddles.push_back(static_cast<float>(std::cos(angle)));
                twiddles.push_back(static_cast<float>(std::sin(angle)));
            }
        }
        done *= radix;
    }
}

std::int64_t transform_length(std::int64_t length) {
    std::vector<std::int32_t> radices;
    while (factors(length, radices) != 1) {
        ++length;
    }
    return length;
}

const Transforms& transforms() {
#ifdef MICROINFER_X86
    if (__builtin_cpu_supports("avx512f")) {
        return transforms_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        return transforms_avx2;
    }
#endif
    return transforms_baseline;
}

}  // namespace microinfer::detection
