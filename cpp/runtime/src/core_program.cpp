#include "core_program.hpp"

#include "safetensors.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace microinfer::runtime {
namespace {

class PosteriorProgram : public Program {
  public:
    explicit PosteriorProgram(std::unique_ptr<const PosteriorNetwork> network)
        : network_(std::move(network)) {}

    [[nodiscard]] CandidateArrays candidates(const RaggedPeaks& /*peaks*/,
                                             const Disks& disks) const override {
        const std::size_t patterns = disks.pattern.size();
        const auto modes = static_cast<std::size_t>(network_->modes());
        const std::size_t size = patterns * modes;
        CandidateArrays found{network_->modes(), std::vector<float>(9 * size),
                              std::vector<std::int64_t>(size), std::vector<float>(size),
                              std::vector<std::uint8_t>(patterns)};
        std::vector<float> no_crystal(patterns);
        network_->find_modes(disks.view(), {found.matrix.data(), found.phase.data(), found.probability.data(),
                                            no_crystal.data()});
        // From modes to answers as `as_candidates` in python/microinfer/models/posterior.py says it.
        for (std::size_t i = 0; i < patterns; ++i) {
            float* const probability = found.probability.data() + i * modes;
            const float sum = std::accumulate(probability, probability + modes, 0.0F);
            found.valid[i] = no_crystal[i] < sum ? 1 : 0;
            std::for_each(probability, probability + modes,
                          [&](float& value) { value /= std::max(sum, 1.0F); });
        }
        return found;
    }

  private:
    std::unique_ptr<const PosteriorNetwork> network_;
};

class ReferenceProgram : public Program {
  public:
    ReferenceProgram(std::unique_ptr<const ReferenceNetwork> network, const TokenSpec& tokens)
        : network_(std::move(network)) {
        const ReferenceSpec& spec = network_->spec();
        require_bins("radius", spec.radius_bins, tokens.radius_bins);
        require_bins("angle", spec.angle_bins, tokens.angle_bins);
        require_bins("intensity", spec.intensity_bins, tokens.intensity_bins);
    }

    [[nodiscard]] CandidateArrays candidates(const RaggedPeaks& /*peaks*/,
                                             const Disks& disks) const override {
        const std::size_t patterns = disks.pattern.size();
        CandidateArrays found{1, std::vector<float>(9 * patterns), std::vector<std::int64_t>(patterns),
                              std::vector<float>(patterns, 0.0F), std::vector<std::uint8_t>(patterns)};
        const auto determined = std::make_unique<bool[]>(patterns);
        network_->answer(disks.bins(), found.matrix.data(), found.phase.data(), determined.get());
        std::copy_n(determined.get(), patterns, found.valid.begin());
        return found;
    }

  private:
    /// The network looks its bins up unchecked.
    static void require_bins(const std::string& name, std::int64_t network, std::int64_t tokens) {
        if (network != tokens) {
            throw std::runtime_error(name + "_table has " + std::to_string(network) + " bins, the tokens " +
                                     std::to_string(tokens));
        }
    }

    std::unique_ptr<const ReferenceNetwork> network_;
};

}  // namespace

std::unique_ptr<Program> core_program(std::string_view arrays, const NetworkSettings& settings,
                                      const TokenSpec& tokens, Numbers numbers) {
    const NamedArrays named = read_safetensors(arrays);
    if (const auto* const posterior = std::get_if<PosteriorSettings>(&settings)) {
        return std::make_unique<PosteriorProgram>(make_posterior_network(named, *posterior, numbers));
    }
    return std::make_unique<ReferenceProgram>(
        make_reference_network(named, std::get<ReferenceSettings>(settings), numbers), tokens);
}

}  // namespace microinfer::runtime
