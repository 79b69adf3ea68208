/// A posterior model that the core runs.
#pragma once

#include "program.hpp"

#include <microinfer/network_arrays.hpp>

#include <memory>
#include <string_view>

namespace microinfer::runtime {

/// Runs all patterns of a call at once, on the core's threads; their lengths do not matter.
class CoreProgram : public Program {
  public:
    /// `arrays` is what read_safetensors() takes. Throws what that and make_posterior_network() throw.
    CoreProgram(std::string_view arrays, const PosteriorSettings& settings, Numbers numbers);

    [[nodiscard]] CandidateArrays candidates(const RaggedPeaks& peaks, const Disks& disks) const override;

  private:
    std::unique_ptr<const PosteriorNetwork> network_;
};

}  // namespace microinfer::runtime
