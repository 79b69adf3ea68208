/// What finds candidates of patterns: the core, or the file's graph.
#pragma once

#include "disks.hpp"

#include <microinfer/tokenizer.hpp>

#include <cstdint>
#include <vector>

namespace microinfer::runtime {

/// Ranked candidates of some patterns, the most probable first.
struct CandidateArrays {
    /// Candidates of each pattern.
    std::int64_t candidates;
    /// Orientations, (patterns, candidates, 3, 3).
    std::vector<float> matrix;
    /// Phases, (patterns, candidates).
    std::vector<std::int64_t> phase;
    /// Probabilities, (patterns, candidates).
    std::vector<float> probability;
    /// 1 where there is an answer, (patterns,).
    std::vector<std::uint8_t> valid;
};

/// A loaded model. May be called from several threads at once.
class Program {
  public:
    virtual ~Program() = default;

    /// Candidates of the patterns that `disks` holds, in its order; `disks` are those of `peaks`.
    [[nodiscard]] virtual CandidateArrays candidates(const RaggedPeaks& peaks, const Disks& disks) const = 0;
};

}  // namespace microinfer::runtime
