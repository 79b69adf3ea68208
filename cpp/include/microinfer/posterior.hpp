/// The posterior model on the CPU: from tokens to ranked orientations, fused.
///
/// What it computes is what `microinfer.models.posterior` defines; that module is its reference.
#pragma once

#include <microinfer/network.hpp>
#include <microinfer/padded_disks.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace microinfer {

/// The weights of a posterior model.
struct PosteriorWeights {
    LinearWeights embedding[2];
    const BlockWeights* blocks;
    std::int64_t block_count;
    LayerNormWeights norm;
    LinearWeights cell_head[2];
    LinearWeights disk_waves;
    LinearWeights wave_gate;
    /// Of each angular order, (2 * cells, channels).
    const LinearWeights* cell_waves;
};

/// A posterior model's geometry and what its decoding looks at.
struct PosteriorSpec {
    std::int64_t width;
    std::int64_t heads;
    std::int64_t channels;
    std::int64_t cells;
    /// Multiple of the polar angle by which each pair of a head's channels turns, (width / heads / 2,).
    const std::int64_t* harmonics;
    /// Angular orders of the in-plane waves, (order_count,).
    const std::int64_t* orders;
    std::int64_t order_count;
    /// Rotation of each cell at in-plane angle 0, (cells, 3, 3).
    const float* frames;
    /// Phase of each cell, (cells,).
    const std::int64_t* cell_phase;
    /// Proper operators of each phase, (phases, group, 3, 3).
    const float* operators;
    std::int64_t phases;
    std::int64_t group;
    /// Most cells that are looked at; those less than `cells_edge` above the first that is not, in
    /// log-probability, weigh less.
    std::int64_t top_cells;
    double cells_edge;
    /// Cells and candidates with less than this share of the best cell's probability are not looked at.
    double negligible;
    /// Points of the grid on which the in-plane densities are normalised.
    std::int64_t angles;
    /// Peaks of a density that are looked for, and grid points on either side that belong to one.
    std::int64_t peaks;
    std::int64_t window;
    /// Modes that are returned.
    std::int64_t modes;
    /// Candidates further from a mode's centre than this do not enter its mean, in radians.
    double mode_radius;
    /// Candidates above this share of the heaviest one's weight lead to a mode beside it, in full up to this
    /// share of the radius.
    double leading;
    /// A mode's probability counts the candidates this near, in radians, with an edge this soft.
    double confidence_radius;
    double confidence_edge;
};

/// Ranked modes of patterns. Not owning.
struct PosteriorModes {
    /// Orientations in py4DSTEM's convention, (patterns, modes, 3, 3).
    float* matrix;
    /// Index of the phase, (patterns, modes).
    std::int64_t* phase;
    /// Probability near the mode, falling, (patterns, modes).
    float* probability;
    /// Probability that there is no crystal, (patterns,).
    float* no_crystal;
};

/// Seconds that the threads spent, summed.
struct PosteriorSeconds {
    double network;   ///< from tokens to the cells' logits and the sums that their waves are read from
    double decoding;  ///< from there to the modes
};

/// A posterior model, its weights packed for this machine.
class PosteriorNetwork {
  public:
    /// Copies what it needs of the weights, which it takes as they are: make_posterior_network
    /// (network_arrays.hpp) checks them. `instructions` is one of `instruction_sets`, or "auto" for the
    /// fastest; std::invalid_argument names those that there are, and says where they do not multiply
    /// `numbers`.
    PosteriorNetwork(const PosteriorWeights& weights, const PosteriorSpec& spec,
                     Numbers numbers = Numbers::float32, const std::string& instructions = "auto");
    ~PosteriorNetwork();
    PosteriorNetwork(const PosteriorNetwork&) = delete;
    PosteriorNetwork& operator=(const PosteriorNetwork&) = delete;

    /// Modes that it returns of each pattern.
    [[nodiscard]] std::int64_t modes() const;

    /// Finds the modes of every pattern and tells how long that took. Patterns may be of any length, also
    /// without disks, and do not depend on each other.
    PosteriorSeconds find_modes(const PaddedDisks& disks, const PosteriorModes& modes) const;

  private:
    class Implementation;
    std::unique_ptr<const Implementation> implementation_;
};

}  // namespace microinfer
