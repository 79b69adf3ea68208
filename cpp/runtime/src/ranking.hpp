/// Choosing each pattern's answer among its candidates, refined or not.
#pragma once

#include "model_file.hpp"
#include "program.hpp"

#include <cstdint>
#include <vector>

namespace microinfer::runtime {

/// The tokens of a batch of patterns, which own their memory.
struct Disks {
    std::vector<float> radius, angle, intensity;
    std::vector<std::int32_t> count;
    std::int64_t length;
};

/// The first candidate of every pattern.
std::vector<Answer> first_answers(const CandidateArrays& candidates, const ModelFacts& model);

/// Every pattern's best candidate once all are polished against the disks, as python/microinfer/refinement.py
/// ranks them.
std::vector<Answer> refined_answers(const CandidateArrays& candidates, const Disks& disks,
                                    const ModelFacts& model);

}  // namespace microinfer::runtime
