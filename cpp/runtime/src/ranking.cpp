#include "ranking.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

namespace microinfer::runtime {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

constexpr double kCertain = 1e-6;  // as CERTAIN in python/microinfer/models/base.py

/// A probability as a validation set corrected it; 0 stays 0.
float calibrated(double probability, const ModelFacts& model) {
    if (!(probability > 0.0)) {
        return 0.0F;
    }
    const double bounded = std::clamp(probability, kCertain, 1.0 - kCertain);
    const double odds = std::log(bounded / (1.0 - bounded));
    return static_cast<float>(1.0 / (1.0 + std::exp(-(model.slope * odds + model.offset))));
}

}  // namespace

Answer no_answer() {
    return {filled(kNaN), -1, 0.0F, kNaN, false};
}

std::vector<Answer> first_answers(const CandidateArrays& candidates, const ModelFacts& model) {
    std::vector<Answer> answers(candidates.valid.size(), no_answer());
    for (std::size_t i = 0; i < answers.size(); ++i) {
        const std::size_t first = i * static_cast<std::size_t>(candidates.candidates);
        if (candidates.valid[i] != 0) {
            answers[i] = {load(candidates.matrix.data() + 9 * first),
                          static_cast<std::int32_t>(candidates.phase[first]),
                          calibrated(candidates.probability[first], model), kNaN, true};
        }
    }
    return answers;
}

std::vector<Answer> refined_answers(const CandidateArrays& candidates, const Disks& disks,
                                    const ModelFacts& model) {
    const RefinementFacts& facts = *model.refinement;
    const auto count = static_cast<std::size_t>(candidates.candidates);
    const std::size_t size = candidates.phase.size();
    const std::vector<double> starts(candidates.matrix.begin(), candidates.matrix.end());
    const auto selected = std::make_unique<bool[]>(size);
    for (std::size_t i = 0; i < size; ++i) {
        selected[i] = candidates.valid[i / count] != 0 &&
                      (i % count == 0 || candidates.probability[i] >= facts.least_probability);
    }
    std::vector<double> matrix(9 * size);
    std::vector<double> likelihood(size);
    std::vector<double> explained(size);
    std::vector<double> score(size);
    std::vector<double> position_error(size);
    refine(disks.view(),
           {facts.vectors.data(), facts.offsets.data(), static_cast<std::int64_t>(facts.offsets.size()) - 1},
           {starts.data(), candidates.phase.data(), selected.get(), candidates.candidates}, facts.spec,
           {matrix.data(), likelihood.data(), explained.data(), score.data(), position_error.data()});

    std::vector<Answer> answers(candidates.valid.size(), no_answer());
    std::vector<double> weight(count);
    for (std::size_t i = 0; i < answers.size(); ++i) {
        if (candidates.valid[i] == 0) {
            continue;
        }
        const std::size_t row = i * count;
        double shared = 0.0;
        for (std::size_t k = 0; k < count; ++k) {
            const double prior = candidates.probability[row + k];
            weight[k] = selected[row + k]
                            ? std::log(std::max(prior, 1e-6)) + facts.evidence * likelihood[row + k]
                            : -std::numeric_limits<double>::infinity();
            shared += selected[row + k] ? prior : 0.0;
        }
        const double heaviest = *std::max_element(weight.begin(), weight.end());
        const double sum = std::accumulate(weight.begin(), weight.end(), 0.0, [&](double total, double w) {
            return total + std::exp(w - heaviest);
        });
        std::size_t best = 0;
        for (std::size_t k = 1; k < count; ++k) {
            const double lead = best == 0 ? facts.margin : 0.0;
            best = weight[k] > weight[best] + lead ? k : best;
        }
        const double probability = std::exp(weight[best] - heaviest) / sum * shared;
        const Matrix3<double> polished = load(matrix.data() + 9 * (row + best));
        Answer& answer = answers[i];
        for (int r = 0; r < 3; ++r) {
            for (int c = 0; c < 3; ++c) {
                answer.matrix.m[r][c] = static_cast<float>(polished.m[r][c]);
            }
        }
        answer.phase = static_cast<std::int32_t>(candidates.phase[row + best]);
        answer.confidence = calibrated(static_cast<float>(probability), model);
        answer.score = static_cast<float>(score[row + best]);
        answer.valid = true;
    }
    return answers;
}

}  // namespace microinfer::runtime
