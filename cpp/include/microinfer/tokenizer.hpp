/// Cartesian to polar tokenization of ragged Bragg peaks.
///
/// The rule, for every pattern (scan position) by itself:
///   1. A NaN or infinite value anywhere in a pattern makes it invalid, with no disks.
///   2. Peaks nearer to the centre than direct_beam_radius, farther than radius_max, or not brighter than
///      zero are dropped. Intensities are divided by the strongest that is left; peaks below intensity_min
///      are dropped.
///   3. The disks are ordered by falling intensity, ties by qx, then qy, so that the order of the peaks in
///      the input does not matter; the first max_disks stay, and no more than `length`.
///   4. The pattern is valid where at least min_disks stay.
#pragma once

#include <microinfer/token_math.hpp>

#include <cstdint>

namespace microinfer {

/// Checks what tokenization relies on, so that no bin lies outside its range. Throws std::invalid_argument,
/// which names the entry.
void require_sound(const TokenSpec& spec);

/// Bragg peaks of many patterns, ragged and flat. Not owning.
struct RaggedPeaks {
    /// Positions along detector axis 0 (down the image), (peaks,), 1/Angstrom.
    const float* qx;
    /// Positions along detector axis 1 (right), (peaks,), 1/Angstrom.
    const float* qy;
    /// Intensities, (peaks,), any unit.
    const float* intensity;
    /// Pattern i holds the peaks [offsets[i], offsets[i + 1]); (patterns + 1,), never falling.
    const std::int64_t* offsets;
    /// Number of patterns.
    std::int64_t patterns;
    /// Number of peaks; no offset is larger.
    std::int64_t peaks;
};

/// Checks that offsets rise from 0 to the number of peaks. Throws std::invalid_argument otherwise.
void require_sound(const RaggedPeaks& peaks);

/// Where the tokens go: row-major (patterns, length) but for `count` and `valid`. Not owning. Every element
/// is written; those past a pattern's last disk become zero.
struct TokenArrays {
    /// Distance from the centre, 1/Angstrom.
    float* radius;
    /// Polar angle atan2(qy, qx), radians in (-pi, pi].
    float* angle;
    /// Intensity over that of the pattern's strongest disk.
    float* intensity;
    /// Radial bins.
    std::int32_t* radius_bin;
    /// Polar-angle bins.
    std::int32_t* angle_bin;
    /// Intensity bins.
    std::int32_t* intensity_bin;
    /// Whether the element is a disk.
    bool* mask;
    /// Disks in each pattern, (patterns,).
    std::int32_t* count;
    /// Whether each pattern may be used, (patterns,).
    bool* valid;
    /// Disks per row.
    std::int64_t length;
};

/// Writes the number of disks that tokenize() keeps in each pattern, at most spec.max_disks, to `count`
/// (patterns,).
void count_disks(const RaggedPeaks& peaks, const TokenSpec& spec, std::int32_t* count);

/// Writes the tokens of all patterns, on the thread pool.
void tokenize(const RaggedPeaks& peaks, const TokenSpec& spec, const TokenArrays& tokens);

}  // namespace microinfer
