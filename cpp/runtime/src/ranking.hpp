/// Choosing each pattern's answer among its candidates, refined or not.
#pragma once

#include "model_file.hpp"
#include "program.hpp"

#include <vector>

namespace microinfer::runtime {

/// What stands where a pattern has no answer.
Answer no_answer();

/// The first candidate of every pattern.
std::vector<Answer> first_answers(const CandidateArrays& candidates, const ModelFacts& model);

/// Every pattern's best candidate once all are polished against the disks, as python/microinfer/refinement.py
/// ranks them.
std::vector<Answer> refined_answers(const CandidateArrays& candidates, const Disks& disks,
                                    const ModelFacts& model);

}  // namespace microinfer::runtime
