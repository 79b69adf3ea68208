/// From a network's candidates to ranked, calibrated answers.
#pragma once

#include <microinfer/model.hpp>
#include <microinfer/refinement.hpp>

#include <array>
#include <cstdint>

namespace microinfer::answers {

/// What stands where there is no candidate.
Candidate no_candidate();

/// Ranks the candidates of pattern `row` of `disks` and writes as many. `refinement` may be null: they keep
/// their order then, and have no score.
void rank(const PaddedDisks& disks, std::int64_t row, const FoundCandidates& found, std::int64_t candidates,
          const Refinement* refinement, const std::array<double, 3>& calibration, Candidate* ranked);

}  // namespace microinfer::answers
