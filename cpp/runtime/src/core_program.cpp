#include "core_program.hpp"

#include "safetensors.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace microinfer::runtime {

CoreProgram::CoreProgram(std::string_view arrays, const PosteriorSettings& settings, Numbers numbers)
    : network_(make_posterior_network(read_safetensors(arrays), settings, numbers)) {}

CandidateArrays CoreProgram::candidates(const RaggedPeaks& /*peaks*/, const Disks& disks) const {
    const std::size_t patterns = disks.pattern.size();
    const auto modes = static_cast<std::size_t>(network_->modes());
    const std::size_t size = patterns * modes;
    CandidateArrays found{network_->modes(), std::vector<float>(9 * size), std::vector<std::int64_t>(size),
                          std::vector<float>(size), std::vector<std::uint8_t>(patterns)};
    std::vector<float> no_crystal(patterns);
    network_->find_modes(
        disks.view(), {found.matrix.data(), found.phase.data(), found.probability.data(), no_crystal.data()});
    // From modes to answers as `as_candidates` in python/microinfer/models/posterior.py says it.
    for (std::size_t i = 0; i < patterns; ++i) {
        float* const probability = found.probability.data() + i * modes;
        const float sum = std::accumulate(probability, probability + modes, 0.0F);
        found.valid[i] = no_crystal[i] < sum ? 1 : 0;
        std::for_each(probability, probability + modes, [&](float& value) { value /= std::max(sum, 1.0F); });
    }
    return found;
}

}  // namespace microinfer::runtime
