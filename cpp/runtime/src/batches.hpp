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

/// Sorts patterns by their number of peaks and cuts them into batches so that as little time as possible goes
/// into padding and into calls of the model. `count` is each pattern's.
std::vector<Batch> batches(const std::vector<std::int64_t>& count);

}  // namespace microinfer::runtime
