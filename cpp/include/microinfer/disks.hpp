/// Tokenized disks of several patterns, as the networks and the refinement read them.
#pragma once

#include <cstdint>

namespace microinfer {

/// Disks of `patterns` patterns, padded to `length`. Not owning.
struct PaddedDisks {
    /// Distance from the direct beam in 1/Angstrom, (patterns, length).
    const float* radius;
    /// Polar angle in radians, (patterns, length).
    const float* angle;
    /// Intensity relative to the pattern's strongest disk, (patterns, length).
    const float* intensity;
    /// Bins of the three, (patterns, length); read by the paper's network alone.
    const std::int32_t* radius_bin;
    const std::int32_t* angle_bin;
    const std::int32_t* intensity_bin;
    /// Disks in each pattern, (patterns,), from 0 to `length`.
    const std::int32_t* count;
    std::int64_t patterns;
    std::int64_t length;
};

}  // namespace microinfer
