/// Which patterns run through a model together.
#pragma once

#include <cstdint>
#include <vector>

namespace microinfer::runtime {

/// Patterns that are padded to one length.
struct Batch {
    /// Their places among those that were cut into batches.
    std::vector<std::int64_t> patterns;
    /// The largest number of peaks of any of them.
    std::int64_t length;
};

/// How a device takes batches.
struct BatchLimits {
    /// What a call of the model costs beside the peaks it is given, in peaks: measured, and not critical.
    std::int64_t call;
    /// Most patterns in a batch.
    std::int64_t largest;
};

constexpr BatchLimits kOnCpu{200, 1024};
/// A GPU spends its time on starting kernels until there are thousands of patterns.
constexpr BatchLimits kOnGpu{20000, 4096};

/// Sorts patterns by their number of peaks and cuts them into batches so that as little time as possible goes
/// into padding and into calls of the model. `count` is each pattern's.
std::vector<Batch> batches(const std::vector<std::int64_t>& count, const BatchLimits& limits);

}  // namespace microinfer::runtime
