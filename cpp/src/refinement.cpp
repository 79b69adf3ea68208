#include "refinement/refiner.hpp"
#include "require.hpp"

#include <microinfer/matrix3.hpp>
#include <microinfer/refinement.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace microinfer {
namespace {

using refinement::Crystal;
using refinement::Pattern;
using refinement::Refiner;

constexpr std::int64_t kBlock = 16;  // patterns
/// A candidate may explain this much less than the best one and still counts as explaining as much.
constexpr double kAsMany = 0.2;

/// Length of the longest reflection of a phase.
double reach_of(const double* vectors, std::int64_t count) {
    double longest = 0.0;
    for (std::int64_t i = 0; i < count; ++i) {
        const double* const v = vectors + 4 * i;
        longest = std::max(longest, v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    }
    return std::sqrt(longest);
}

/// A candidate that is not looked at keeps its orientation; nothing is known of its fit.
void leave(const Candidates& candidates, const Refined& refined, std::int64_t at) {
    constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    std::copy_n(candidates.matrix + 9 * at, 9, refined.matrix + 9 * at);
    for (double* const values :
         {refined.log_likelihood, refined.explained, refined.score, refined.position_error}) {
        values[at] = unknown;
    }
}

}  // namespace

void require_sound(const RefinementSpec& spec) {
    const auto positive = [](double value) { return value > 0.0 && std::isfinite(value); };
    require(positive(spec.wavelength), "wavelength must be positive and finite", spec.wavelength);
    require(positive(spec.match_radius), "match_radius must be positive and finite", spec.match_radius);
    require(positive(spec.position_error), "position_error must be positive and finite", spec.position_error);
    require(positive(spec.excitation_error), "excitation_error must be positive and finite",
            spec.excitation_error);
    require(spec.excitation_slope >= 0.0 && std::isfinite(spec.excitation_slope),
            "excitation_slope must be at least 0 and finite", spec.excitation_slope);
    require(positive(spec.tilt_error), "tilt_error must be positive and finite", spec.tilt_error);
    require(positive(spec.in_plane_error), "in_plane_error must be positive and finite", spec.in_plane_error);
    require(spec.false_share > 0.0 && spec.false_share < 1.0, "false_share must lie between 0 and 1",
            spec.false_share);
    require(spec.steps >= 1, "steps must be at least 1", spec.steps);
}

void refine(const PaddedDisks& disks, const Reflections& reflections, const Candidates& candidates,
            const RefinementSpec& spec, const Refined& refined) {
    const std::int64_t count = candidates.candidates;
    std::vector<Crystal> crystals;
    double reach = 0.0;
    for (std::int64_t phase = 0; phase < reflections.phases; ++phase) {
        const std::int64_t first = reflections.offsets[phase];
        const double* const vectors = reflections.vectors + 4 * first;
        const std::int64_t size = reflections.offsets[phase + 1] - first;
        crystals.push_back({vectors, size, reach_of(vectors, size)});
        reach = std::max(reach, crystals.back().longest);
    }
    parallel_for(disks.patterns, kBlock, [&](std::int64_t begin, std::int64_t end) {
        Pattern pattern;
        std::vector<Refiner> refiners(static_cast<std::size_t>(count), Refiner(spec, pattern));
        for (std::int64_t i = begin; i < end; ++i) {
            pattern.read(disks, i, spec);
            double most_explained = 0.0;
            for (std::int64_t at = i * count; at < (i + 1) * count; ++at) {
                if (!candidates.selected[at]) {
                    leave(candidates, refined, at);
                    continue;
                }
                Refiner& refiner = refiners[static_cast<std::size_t>(at - i * count)];
                const Matrix3<double> polished =
                    refiner.polish(load(candidates.matrix + 9 * at),
                                   crystals[static_cast<std::size_t>(candidates.phase[at])]);
                store(polished, refined.matrix + 9 * at);
                refined.explained[at] = refiner.explained();
                refined.score[at] = refiner.score();
                refined.position_error[at] = refiner.position_error();
                most_explained = std::max(most_explained, refiner.explained());
            }
            // The candidates are compared with one position error: the smallest that any of those leaves
            // which explain as much as the best one.
            double position_error = std::numeric_limits<double>::infinity();
            for (std::int64_t at = i * count; at < (i + 1) * count; ++at) {
                if (candidates.selected[at] && refined.explained[at] > most_explained - kAsMany) {
                    position_error = std::min(position_error, refined.position_error[at]);
                }
            }
            for (std::int64_t at = i * count; at < (i + 1) * count; ++at) {
                if (candidates.selected[at]) {
                    refined.log_likelihood[at] =
                        refiners[static_cast<std::size_t>(at - i * count)].log_likelihood(position_error,
                                                                                          reach);
                }
            }
        }
    });
}

}  // namespace microinfer
