/// What the models' networks offer: from tokens to ranked candidates.
#pragma once

#include "kernels.hpp"

#include <microinfer/disks.hpp>
#include <microinfer/model.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace microinfer::networks {

/// What a checkpoint's header says of a network's size; its arrays must agree.
struct NetworkConfig {
    std::int64_t width;
    std::int64_t blocks;
    std::int64_t heads;
    std::int64_t channels;  ///< Of each in-plane order, in a posterior.
};

/// Where a network's candidates go, the most probable first. Not owning.
struct Candidates {
    /// Orientations in py4DSTEM's convention, (patterns, candidates, 3, 3).
    float* matrix;
    /// Index of the phase, (patterns, candidates).
    std::int64_t* phase;
    /// Probability that phase and orientation are right, as the network has it, (patterns, candidates); 0
    /// where there are fewer candidates.
    float* probability;
    /// Whether there is an answer, (patterns,).
    bool* valid;
};

/// A model's network, its weights packed for this machine.
class Network {
  public:
    virtual ~Network() = default;

    /// Candidates of each pattern.
    [[nodiscard]] virtual std::int64_t candidates() const = 0;

    /// Finds the candidates of every pattern. Patterns may be of any length, also without disks, and do not
    /// depend on each other. May be called from several threads at once.
    virtual void find(const PaddedDisks& disks, const Candidates& to) const = 0;
};

/// Make a network of a model's arrays, copying what it needs of them. Both throw std::invalid_argument, which
/// names the array, for arrays that do not fit each other or the model.
std::unique_ptr<Network> make_posterior(const Kernels& kernels, Numbers numbers, const NamedArrays& arrays,
                                        const ModelInfo& model, const NetworkConfig& config);
std::unique_ptr<Network> make_reference(const Kernels& kernels, Numbers numbers, const NamedArrays& arrays,
                                        const ModelInfo& model, const NetworkConfig& config);

}  // namespace microinfer::networks
