/// The paper's model on the CPU: from binned tokens to one orientation and phase for each pattern, fused.
///
/// What it computes is what `microinfer.models.reference` defines; that module is its reference.
#pragma once

#include <microinfer/network.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace microinfer {

/// The weights of a reference model.
struct ReferenceWeights {
    /// What each bin adds to a disk's embedding, (bins, width). Not owning.
    const float* radius_table;
    const float* angle_table;
    const float* intensity_table;
    LayerNormWeights norm_in;
    const BlockWeights* blocks;
    std::int64_t block_count;
    LayerNormWeights norm_out;
    /// The first one is followed by `orientation_norm`.
    LinearWeights orientation_head[4];
    LayerNormWeights orientation_norm;
    LinearWeights phase_head[2];
};

/// A reference model's geometry.
struct ReferenceSpec {
    std::int64_t width;
    std::int64_t heads;
    std::int64_t radius_bins;
    std::int64_t angle_bins;
    std::int64_t intensity_bins;
    std::int64_t phases;
};

/// Binned disks of `patterns` patterns, padded to `length`. Not owning.
struct BinnedDisks {
    /// Bins of each disk, (patterns, length).
    const std::int32_t* radius;
    const std::int32_t* angle;
    const std::int32_t* intensity;
    /// Disks in each pattern, (patterns,), from 0 to `length`.
    const std::int32_t* count;
    std::int64_t patterns;
    std::int64_t length;
};

/// A reference model, its weights packed for this machine.
class ReferenceNetwork {
  public:
    /// Copies what it needs of the weights, which it takes as they are: make_reference_network
    /// (network_arrays.hpp) checks them. `instructions` is one of `instruction_sets`, or "auto" for the
    /// fastest; std::invalid_argument names those that there are, and says where they do not multiply
    /// `numbers`.
    ReferenceNetwork(const ReferenceWeights& weights, const ReferenceSpec& spec,
                     Numbers numbers = Numbers::float32, const std::string& instructions = "auto");
    ~ReferenceNetwork();
    ReferenceNetwork(const ReferenceNetwork&) = delete;
    ReferenceNetwork& operator=(const ReferenceNetwork&) = delete;

    [[nodiscard]] const ReferenceSpec& spec() const;

    /// Writes an orientation in py4DSTEM's convention, (patterns, 3, 3), a phase, (patterns,), and whether
    /// the network's output determines the orientation (is_determined() in procrustes_math.hpp), (patterns,),
    /// for every pattern. Bins must lie in the spec's ranges. Patterns do not depend on each other.
    void answer(const BinnedDisks& disks, float* matrix, std::int64_t* phase, bool* determined) const;

  private:
    class Implementation;
    std::unique_ptr<const Implementation> implementation_;
};

}  // namespace microinfer
