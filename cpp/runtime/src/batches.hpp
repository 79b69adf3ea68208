/// Which patterns run through a model together.
#pragma once

#include <cstdint>
#include <vector>

namespace microinfer::runtime {

/// Patterns that are padded to one length.
struct Batch {
    /// Their indices.
    std::vector<std::int64_t> patterns;
    /// The largest number of peaks of any of them.
    std::int64_t length;
};

/// Sorts patterns by their number of peaks and cuts them into batches so that as little time as possible goes
/// into padding and into calls of the model.
///
/// `offsets` are those of `patterns` patterns, as in RaggedPeaks.
std::vector<Batch> batches(const std::int64_t* offsets, std::int64_t patterns);

}  // namespace microinfer::runtime
