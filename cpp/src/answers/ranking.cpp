#include "ranking.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace microinfer::answers {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
/// Probabilities nearer to 0 or 1 than this have the log-odds of this one.
constexpr double kCertain = 1e-6;
/// Candidates less probable than this, the first one apart, are not polished.
constexpr double kLeastProbability = 1e-4;
/// Weight of the disks' log-likelihood beside the network's log-probability; below 1, since the errors of
/// disks of one pattern are not independent.
constexpr double kEvidence = 0.3;
/// By how much, in nats, another candidate must be better to take the first one's place.
constexpr double kMargin = 0.5;

/// A probability as a validation set corrected it; 0 stays 0.
double calibrated(double probability, const std::array<double, 3>& calibration) {
    if (!(probability > 0.0)) {
        return 0.0;
    }
    const double bounded = std::clamp(probability, kCertain, 1.0 - kCertain);
    const auto [a, b, c] = calibration;
    return 1.0 / (1.0 + std::exp(-(a * std::log(bounded) - b * std::log(1.0 - bounded) + c)));
}

struct Ranked {
    Matrix3<float> matrix;
    double probability;
    float score;
    std::int64_t phase;
};

/// Polishes the candidates that are probable enough and puts the best one first, the others behind it by
/// their probability. The sum of the probabilities is kept.
void refine(const PaddedDisks& disks, std::int64_t row, const Refinement& refinement,
            std::vector<Ranked>& candidates) {
    thread_local std::vector<float> matrix;
    thread_local std::vector<std::int64_t> phase;
    thread_local std::vector<Polished> polished;
    // The probable ones come first: a network ranks its candidates.
    std::size_t count = 1;
    while (count < candidates.size() && candidates[count].probability >= kLeastProbability) {
        ++count;
    }
    matrix.resize(9 * count);
    phase.resize(count);
    polished.resize(count);
    for (std::size_t k = 0; k < count; ++k) {
        store(candidates[k].matrix, matrix.data() + 9 * k);
        phase[k] = candidates[k].phase;
    }
    refinement.polish(disks, row, {matrix.data(), phase.data(), static_cast<std::int64_t>(count)},
                      polished.data());

    thread_local std::vector<double> weight;
    weight.resize(count);
    double prior = 0.0;
    for (std::size_t k = 0; k < count; ++k) {
        weight[k] =
            std::log(std::max(candidates[k].probability, 1e-6)) + kEvidence * polished[k].log_likelihood;
        prior += candidates[k].probability;
    }
    const double heaviest = *std::max_element(weight.begin(), weight.end());
    double sum = 0.0;
    for (const double w : weight) {
        sum += std::exp(w - heaviest);
    }
    for (std::size_t k = 0; k < count; ++k) {
        std::transform(polished[k].matrix, polished[k].matrix + 9, &candidates[k].matrix.m[0][0],
                       [](double element) { return static_cast<float>(element); });
        candidates[k].probability = std::exp(weight[k] - heaviest) / sum * prior;
        candidates[k].score = static_cast<float>(polished[k].score);
    }
    weight[0] += kMargin;
    const auto best = std::max_element(weight.begin(), weight.end()) - weight.begin();
    std::rotate(candidates.begin(), candidates.begin() + best, candidates.begin() + best + 1);
    std::stable_sort(candidates.begin() + 1, candidates.end(),
                     [](const Ranked& a, const Ranked& b) { return a.probability > b.probability; });
}

}  // namespace

Candidate no_candidate() {
    return {filled(kNaN), 0.0F, kNaN, -1};
}

void rank(const PaddedDisks& disks, std::int64_t row, const FoundCandidates& found, std::int64_t count,
          const Refinement* refinement, const std::array<double, 3>& calibration, Candidate* ranked) {
    thread_local std::vector<Ranked> candidates;
    candidates.clear();
    for (std::int64_t at = row * count; at < (row + 1) * count; ++at) {
        candidates.push_back({load(found.matrix + 9 * at), found.probability[at], kNaN, found.phase[at]});
    }
    if (refinement != nullptr) {
        refine(disks, row, *refinement, candidates);
    }
    const double confidence = calibrated(candidates[0].probability, calibration);
    // what the best answer leaves is shared out as the model has it
    const double rest = (1.0 - confidence) / std::max(1.0 - candidates[0].probability, 1e-6);
    for (std::size_t k = 0; k < candidates.size(); ++k) {
        const Ranked& candidate = candidates[k];
        if (k > 0 && !(candidate.probability > 0.0)) {
            ranked[k] = no_candidate();
            continue;
        }
        const double probability = k == 0 ? confidence : std::clamp(candidate.probability * rest, 0.0, 1.0);
        ranked[k] = {candidate.matrix, static_cast<float>(probability), candidate.score,
                     static_cast<std::int16_t>(candidate.phase)};
    }
}

}  // namespace microinfer::answers
