#include "../require.hpp"
#include "refiner.hpp"

#include <microinfer/matrix3.hpp>
#include <microinfer/refinement.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace microinfer {
namespace {

/// A candidate may explain this much less than the best one and still counts as explaining as much.
constexpr double kAsMany = 0.2;

void require_sound(const RefinementSpec& spec) {
    const auto positive = [](double value) { return value > 0.0 && std::isfinite(value); };
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

/// Length of the longest reflection.
double longest_of(const double* reflections, std::int64_t count) {
    double longest = 0.0;
    for (std::int64_t i = 0; i < count; ++i) {
        const double* const v = reflections + 4 * i;
        longest = std::max(longest, v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    }
    return std::sqrt(longest);
}

Matrix3<double> widened(const float* elements) {
    Matrix3<double> matrix;
    for (int i = 0; i < 9; ++i) {
        matrix.m[i / 3][i % 3] = elements[i];
    }
    return matrix;
}

}  // namespace

Refinement::Refinement(std::vector<double> reflections, std::vector<std::int64_t> offsets, double wavelength,
                       const RefinementSpec& spec)
    : spec_(spec),
      wavelength_(wavelength),
      reflections_(std::move(reflections)),
      offsets_(std::move(offsets)) {
    require_sound(spec);
    require(wavelength > 0.0 && std::isfinite(wavelength), "wavelength must be positive and finite",
            wavelength);
    const auto count = static_cast<std::int64_t>(reflections_.size() / 4);
    require(offsets_.size() >= 2 && offsets_.front() == 0 && offsets_.back() == count &&
                std::is_sorted(offsets_.begin(), offsets_.end()),
            "offsets must rise from 0 to the number of reflections", count);
    for (std::size_t phase = 0; phase + 1 < offsets_.size(); ++phase) {
        longest_.push_back(
            longest_of(reflections_.data() + 4 * offsets_[phase], offsets_[phase + 1] - offsets_[phase]));
    }
}

void Refinement::polish(const PaddedDisks& disks, std::int64_t row, const Starts& starts,
                        Polished* polished) const {
    thread_local refinement::Pattern pattern;  // and the refiners, for their buffers
    thread_local std::vector<refinement::Refiner> refiners;
    pattern.read(disks, row, spec_);
    const auto count = static_cast<std::size_t>(starts.candidates);
    if (refiners.size() < count) {
        refiners.resize(count);
    }
    double most_explained = 0.0;
    for (std::size_t k = 0; k < count; ++k) {
        const auto phase = static_cast<std::size_t>(starts.phase[k]);
        const std::int64_t first = offsets_[phase];
        const double* const vectors = reflections_.data() + 4 * first;
        const std::int64_t size = offsets_[phase + 1] - first;
        const Matrix3<double> matrix = refiners[k].polish(
            widened(starts.matrix + 9 * k), pattern, {vectors, size, longest_[phase], wavelength_}, spec_);
        store(matrix, polished[k].matrix);
        polished[k].score = refiners[k].score();
        most_explained = std::max(most_explained, refiners[k].explained());
    }
    // The candidates are compared with one position error: the smallest that any of those leaves which
    // explain as much as the best one.
    double position_error = std::numeric_limits<double>::infinity();
    for (std::size_t k = 0; k < count; ++k) {
        if (refiners[k].explained() > most_explained - kAsMany) {
            position_error = std::min(position_error, refiners[k].position_error());
        }
    }
    const double reach = *std::max_element(longest_.begin(), longest_.end());
    for (std::size_t k = 0; k < count; ++k) {
        polished[k].log_likelihood = refiners[k].log_likelihood(position_error, reach);
    }
}

}  // namespace microinfer
