/// The disks of the patterns that may have an answer.
#pragma once

#include <microinfer/padded_disks.hpp>
#include <microinfer/reference.hpp>
#include <microinfer/tokenizer.hpp>

#include <cstdint>
#include <vector>

namespace microinfer::runtime {

/// Tokens of patterns, padded to one length. Owns its memory.
struct Disks {
    /// Which patterns they are, rising, (patterns,).
    std::vector<std::int64_t> pattern;
    /// As in PaddedDisks.
    std::vector<float> radius, angle, intensity;
    /// As in BinnedDisks.
    std::vector<std::int32_t> radius_bin, angle_bin, intensity_bin;
    /// As in both.
    std::vector<std::int32_t> count;
    std::int64_t length;

    /// The disks as the core's functions take them.
    [[nodiscard]] PaddedDisks view() const;

    /// Their bins, as a reference model takes them.
    [[nodiscard]] BinnedDisks bins() const;
};

/// Tokenizes patterns and keeps the valid ones. Throws std::invalid_argument where the offsets fall, or do
/// not go from 0 to the number of peaks.
Disks disks_of(const RaggedPeaks& peaks, const TokenSpec& spec);

}  // namespace microinfer::runtime
