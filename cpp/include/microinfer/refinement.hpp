/// Kinematic refinement: orientations are polished until the crystal's reflections lie under the measured
/// disks.
#pragma once

#include <microinfer/padded_disks.hpp>

#include <cstdint>

namespace microinfer {

/// What a refinement assumes of patterns and of the answers that it starts from.
struct RefinementSpec {
    /// Electron wavelength in Angstrom.
    double wavelength;
    /// A disk may belong to a reflection this near, in 1/Angstrom.
    double match_radius;
    /// Smallest error of a disk's position that is believed, in 1/Angstrom; the error itself is estimated
    /// from each pattern.
    double position_error;
    /// Excitation errors have this standard deviation for the strongest disk, in 1/Angstrom ...
    double excitation_error;
    /// ... and this much more for each factor e that a disk is weaker.
    double excitation_slope;
    /// Standard deviation of the starting tilt (about x and y) in radians.
    double tilt_error;
    /// Standard deviation of the starting in-plane angle (about z) in radians.
    double in_plane_error;
    /// Probability that a disk belongs to no reflection.
    double false_share;
    /// Most Gauss-Newton steps.
    std::int32_t steps;
};

/// Checks what a refinement relies on. Throws std::invalid_argument, which names the entry.
void require_sound(const RefinementSpec& spec);

/// The reflections of all phases. Not owning.
struct Reflections {
    /// Reciprocal lattice vectors in the crystal's frame (1/Angstrom) and |F|, (reflections, 4).
    const double* vectors;
    /// First reflection of each phase, (phases + 1,).
    const std::int64_t* offsets;
    std::int64_t phases;
};

/// Candidate orientations of each pattern. Not owning.
struct Candidates {
    /// Orientations in py4DSTEM's convention, (patterns, candidates, 3, 3).
    const double* matrix;
    /// Index of the phase, (patterns, candidates).
    const std::int64_t* phase;
    /// Whether to look at it, (patterns, candidates).
    const bool* selected;
    std::int64_t candidates;
};

/// What a refinement finds, for each candidate, (patterns, candidates, ...): NaN, but for the orientation,
/// where it was not to look. Not owning.
struct Refined {
    /// Polished orientations, (..., 3, 3).
    double* matrix;
    /// Log-likelihood of the disks in nats, comparable among a pattern's candidates, (...).
    double* log_likelihood;
    /// Share of the measured disks' amplitude (square root of intensity) that lies on a reflection, (...).
    double* explained;
    /// Correlation of measured and predicted amplitudes as in py4DSTEM's template matching, in [0, 1], (...).
    double* score;
    /// Estimated error of the disks' positions in 1/Angstrom, (...).
    double* position_error;
};

/// Polishes the selected candidates of every pattern.
///
/// A disk belongs to the reflection that explains it best: near in position, and near the Ewald sphere, the
/// more so the stronger the disk is. Gauss-Newton steps then minimise the squared distances between disks and
/// their reflections, the squared excitation errors and the squared departure from the starting orientation,
/// each over its own variance. That of the positions is estimated from the pattern, so that exact positions,
/// which fix the tilt through the height of the reflections over the detector plane, are used as such, and
/// noisy ones are not.
void refine(const PaddedDisks& disks, const Reflections& reflections, const Candidates& candidates,
            const RefinementSpec& spec, const Refined& refined);

}  // namespace microinfer
