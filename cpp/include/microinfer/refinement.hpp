/// Kinematic refinement: orientations are polished until the crystal's reflections lie under the measured
/// disks.
///
/// The positions of the disks and the excitation errors of their reflections decide, not the intensities,
/// which mean little in thick crystals.
#pragma once

#include <microinfer/disks.hpp>

#include <cstdint>
#include <vector>

namespace microinfer {

/// What a refinement assumes of patterns and of the answers that it starts from.
struct RefinementSpec {
    /// A disk may belong to a reflection this near, in 1/Angstrom.
    double match_radius = 0.04;
    /// Smallest error of a disk's position that is believed, in 1/Angstrom; the error itself is estimated
    /// from each pattern.
    double position_error = 3e-4;
    /// Excitation errors have this standard deviation for the strongest disk, in 1/Angstrom ...
    double excitation_error = 0.02;
    /// ... and this much more for each factor e that a disk is weaker.
    double excitation_slope = 0.014;
    /// Standard deviation of the starting tilt (about x and y) in degrees.
    double tilt_error = 0.8;
    /// Standard deviation of the starting in-plane angle (about z) in degrees.
    double in_plane_error = 2.0;
    /// Probability that a disk belongs to no reflection.
    double false_share = 0.05;
    /// Most Gauss-Newton steps.
    std::int32_t steps = 6;
};

/// What polishing finds of one candidate.
struct Polished {
    /// Orientation in py4DSTEM's convention, row by row.
    double matrix[9];
    /// Log-likelihood of the disks in nats, comparable among a pattern's candidates.
    double log_likelihood;
    /// Correlation of measured and predicted amplitudes as in py4DSTEM's template matching, in [0, 1].
    double score;
};

/// Candidates of one pattern to start from. Not owning.
struct Starts {
    /// Orientations, (candidates, 3, 3).
    const float* matrix;
    /// Index of the phase, (candidates,).
    const std::int64_t* phase;
    std::int64_t candidates;
};

/// Polishes candidates against the reflections of some phases.
class Refinement {
  public:
    /// `reflections` are of all phases, four numbers each: a reciprocal lattice vector in the crystal's
    /// Cartesian frame (1/Angstrom) and |F|; `offsets` (phases + 1) says where each phase's begin;
    /// `wavelength` is the electrons' in Angstrom. Throws std::invalid_argument, which names what is out of
    /// range.
    Refinement(std::vector<double> reflections, std::vector<std::int64_t> offsets, double wavelength,
               const RefinementSpec& spec = {});

    [[nodiscard]] const RefinementSpec& spec() const { return spec_; }
    [[nodiscard]] double wavelength() const { return wavelength_; }
    [[nodiscard]] std::int64_t phases() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }

    /// Polishes the candidates of one pattern of `disks`; writes (candidates,).
    ///
    /// A disk belongs to the reflection that explains it best: near in position, and near the Ewald sphere,
    /// the more so the stronger the disk is. Gauss-Newton steps then minimise the squared distances between
    /// disks and their reflections, the squared excitation errors and the squared departure from the starting
    /// orientation, each over its own variance. That of the positions is estimated from the pattern, so that
    /// exact positions, which fix the tilt through the height of the reflections over the detector plane, are
    /// used as such, and noisy ones are not.
    void polish(const PaddedDisks& disks, std::int64_t pattern, const Starts& starts,
                Polished* polished) const;

  private:
    RefinementSpec spec_;
    double wavelength_;
    std::vector<double> reflections_;
    std::vector<std::int64_t> offsets_;
    std::vector<double> longest_;  // reflection of each phase, 1/Angstrom
};

}  // namespace microinfer
