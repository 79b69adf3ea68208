#include "refiner.hpp"

#include "least_squares.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace microinfer::refinement {
namespace {

/// Reflections whose excitation error is larger than this many standard deviations are not looked at.
constexpr double kExcitationReach = 3.5;
/// Relative intensity of the weakest disks, which excitation errors no longer grow beyond.
constexpr double kWeakest = 0.01;
/// Disks' worth of trust in the smallest position error.
constexpr double kPriorDisks = 1.0;
/// Distance in 1/Angstrom at which a reflection no longer correlates with a disk (py4DSTEM's default kernel).
constexpr double kCorrelationRadius = 0.08;
/// Disks and reflections within this many match radii stay paired up while the orientation moves little.
constexpr double kPairingReach = 3.5;
/// A step shorter than this, in radians, ends the polishing.
constexpr double kConverged = 1e-6;
constexpr double kDegree = std::numbers::pi / 180.0;
constexpr std::size_t kLanes = 16;  // reflections that are compared with a disk at a time

/// Of a reciprocal lattice vector of this height over the detector plane and this squared length.
double excitation_error(double z, double length_squared, double wavelength) {
    return (2.0 * z - wavelength * length_squared) / (2.0 - 2.0 * wavelength * z);
}

}  // namespace

void Pattern::read(const PaddedDisks& from, std::int64_t pattern, const RefinementSpec& spec) {
    disks.clear();
    amplitudes = 0.0;
    for (std::int64_t i = pattern * from.length; i < pattern * from.length + from.count[pattern]; ++i) {
        const double intensity = std::max(static_cast<double>(from.intensity[i]), 1e-6);
        const double error =
            spec.excitation_error - spec.excitation_slope * std::log(std::clamp(intensity, kWeakest, 1.0));
        const double radius = from.radius[i];
        const double angle = from.angle[i];
        disks.push_back({radius * std::cos(angle), radius * std::sin(angle), std::sqrt(intensity), error});
        amplitudes += disks.back().amplitude;
    }
}

Matrix3<double> Refiner::polish(const Matrix3<double>& start, const Pattern& pattern, const Crystal& crystal,
                                const RefinementSpec& spec) {
    spec_ = spec;
    pattern_ = &pattern;
    wavelength_ = crystal.wavelength;
    reach_ = kExcitationReach * (spec.excitation_error - spec.excitation_slope * std::log(kWeakest));
    Matrix3<double> inverse = transposed(start);  // crystal to lab
    departure_ = {0.0, 0.0, 0.0};
    matches_.resize(pattern_->disks.size());
    position_error_ = 0.3 * spec_.match_radius;
    pair_up(inverse, crystal);
    match(2.0 * spec_.match_radius);
    for (std::int32_t step = 0; step < spec_.steps; ++step) {
        if (step > 0) {
            match(spec_.match_radius);  // again, with the position error that the last step has left
        }
        const Vector3<double> turn = improvement(departure_);
        const double angle = std::sqrt(dot(turn, turn));
        inverse = multiply(rotation(turn), inverse);
        departure_ = {departure_.x + turn.x, departure_.y + turn.y, departure_.z + turn.z};
        moved_ += angle * crystal.longest;
        if (moved_ > (kPairingReach - 1.0) * spec_.match_radius) {
            pair_up(inverse, crystal);
        } else {
            place(inverse);
        }
        match(spec_.match_radius);
        estimate_position_error();
        if (angle < kConverged) {
            break;
        }
    }
    predict(inverse);
    return transposed(inverse);
}

double Refiner::log_likelihood(double position_error, double reach) const {
    const double area = std::numbers::pi * squared(reach);
    const double none = std::log(spec_.false_share / area);
    const double highest =
        std::log((1.0 - spec_.false_share) / (2.0 * std::numbers::pi * squared(position_error)));
    double sum = -0.5 * (squared(departure_.x) + squared(departure_.y)) / squared(spec_.tilt_error * kDegree);
    for (std::size_t i = 0; i < pattern_->disks.size(); ++i) {
        double value = none;
        if (matches_[i].reflection >= 0) {
            const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
            const double explained =
                highest - 0.5 * matches_[i].distance_squared / squared(position_error) -
                0.5 * squared(reflection.excitation_error / pattern_->disks[i].excitation_error);
            value = std::max(value, explained);
        }
        sum += value;
    }
    return sum;
}

double Refiner::explained() const {
    double sum = 0.0;
    for (std::size_t i = 0; i < pattern_->disks.size(); ++i) {
        sum += matches_[i].reflection >= 0 ? pattern_->disks[i].amplitude : 0.0;
    }
    return pattern_->amplitudes > 0.0 ? sum / pattern_->amplitudes : 0.0;
}

double Refiner::score() const {
    double measured = 0.0;
    double both = 0.0;
    for (std::size_t i = 0; i < pattern_->disks.size(); ++i) {
        measured += squared(pattern_->disks[i].amplitude);
        if (matches_[i].reflection >= 0) {
            const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
            const double near =
                std::max(0.0, 1.0 - std::sqrt(matches_[i].distance_squared) / kCorrelationRadius);
            both +=
                near * pattern_->disks[i].amplitude * seen(reflection.amplitude, reflection.excitation_error);
        }
    }
    const double norm = std::sqrt(predicted_ * measured);
    return norm > 0.0 ? std::min(1.0, both / norm) : 0.0;
}

void Refiner::pair_up(const Matrix3<double>& inverse, const Crystal& crystal) {
    const double margin = kPairingReach * spec_.match_radius;
    near_.clear();
    near_x_.clear();
    near_y_.clear();
    for (std::int64_t i = 0; i < crystal.count; ++i) {
        const double* const v = crystal.vectors + 4 * i;
        const Vector3<double> in_crystal = {v[0], v[1], v[2]};
        const double z = inverse.m[2][0] * v[0] + inverse.m[2][1] * v[1] + inverse.m[2][2] * v[2];
        const double error = excitation_error(z, dot(in_crystal, in_crystal), wavelength_);
        if (std::abs(error) <= reach_ + margin) {
            const Vector3<double> g = multiply(inverse, in_crystal);
            near_.push_back({in_crystal, g, error, v[3]});
            near_x_.push_back(static_cast<float>(g.x));
            near_y_.push_back(static_cast<float>(g.y));
        }
    }
    const std::size_t whole = (near_.size() + kLanes - 1) / kLanes * kLanes;
    near_x_.resize(whole, std::numeric_limits<float>::quiet_NaN());  // near to nothing
    near_y_.resize(whole, std::numeric_limits<float>::quiet_NaN());

    reflections_.clear();
    pairs_.clear();
    pairs_end_.clear();
    place_of_.assign(near_.size(), -1);
    const float farthest = static_cast<float>(squared(margin * (1.0 + 1e-5)));
    for (const Disk& disk : pattern_->disks) {
        const float x = static_cast<float>(disk.qx);
        const float y = static_cast<float>(disk.qy);
        for (std::size_t first = 0; first < whole; first += kLanes) {
            int hits = 0;
            for (std::size_t j = first; j < first + kLanes; ++j) {
                const float dx = x - near_x_[j];
                const float dy = y - near_y_[j];
                hits += dx * dx + dy * dy <= farthest ? 1 : 0;
            }
            for (std::size_t j = first; hits > 0 && j < first + kLanes; ++j) {
                const float dx = x - near_x_[j];
                const float dy = y - near_y_[j];
                if (dx * dx + dy * dy <= farthest) {
                    if (place_of_[j] < 0) {
                        place_of_[j] = static_cast<std::ptrdiff_t>(reflections_.size());
                        reflections_.push_back(near_[j]);
                    }
                    pairs_.push_back(place_of_[j]);
                }
            }
        }
        pairs_end_.push_back(pairs_.size());
    }
    moved_ = 0.0;
}

void Refiner::place(const Matrix3<double>& inverse) {
    for (Reflection& reflection : reflections_) {
        reflection.g = multiply(inverse, reflection.crystal);
        reflection.excitation_error =
            excitation_error(reflection.g.z, dot(reflection.g, reflection.g), wavelength_);
    }
}

void Refiner::match(double radius) {
    const double weight = 1.0 / squared(std::max(position_error_, 0.1 * spec_.match_radius));
    std::size_t pair = 0;
    for (std::size_t i = 0; i < pattern_->disks.size(); ++i) {
        const Disk& disk = pattern_->disks[i];
        Match best = {-1, 0.0};
        double lowest = std::numeric_limits<double>::infinity();
        for (; pair < pairs_end_[i]; ++pair) {
            const Reflection& reflection = reflections_[static_cast<std::size_t>(pairs_[pair])];
            const double distance = squared(disk.qx - reflection.g.x) + squared(disk.qy - reflection.g.y);
            const double ratio = reflection.excitation_error / disk.excitation_error;
            if (distance > squared(radius) || std::abs(ratio) > kExcitationReach) {
                continue;
            }
            const double cost = weight * distance + squared(ratio);
            if (cost < lowest) {
                lowest = cost;
                best = {pairs_[pair], distance};
            }
        }
        matches_[i] = best;
    }
}

void Refiner::predict(const Matrix3<double>& inverse) {
    predicted_ = 0.0;
    for (const Reflection& reflection : near_) {
        const Vector3<double>& v = reflection.crystal;
        const double z = inverse.m[2][0] * v.x + inverse.m[2][1] * v.y + inverse.m[2][2] * v.z;
        const double error = excitation_error(z, dot(v, v), wavelength_);
        if (std::abs(error) <= reach_) {
            predicted_ += squared(seen(reflection.amplitude, error));
        }
    }
}

Vector3<double> Refiner::improvement(const Vector3<double>& departure) const {
    NormalEquations equations;
    const double tilt = 1.0 / squared(spec_.tilt_error * kDegree);
    equations.add({1.0, 0.0, 0.0}, -departure.x, tilt);
    equations.add({0.0, 1.0, 0.0}, -departure.y, tilt);
    equations.add({0.0, 0.0, 1.0}, -departure.z, 1.0 / squared(spec_.in_plane_error * kDegree));
    const double weight = 1.0 / squared(position_error_);
    for (std::size_t i = 0; i < pattern_->disks.size(); ++i) {
        if (matches_[i].reflection < 0) {
            continue;
        }
        const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
        const Vector3<double>& g = reflection.g;
        // turned by w: g + w x g
        equations.add({0.0, g.z, -g.y}, pattern_->disks[i].qx - g.x, weight);
        equations.add({-g.z, 0.0, g.x}, pattern_->disks[i].qy - g.y, weight);
        equations.add({g.y, -g.x, 0.0}, -reflection.excitation_error,
                      1.0 / squared(pattern_->disks[i].excitation_error));
    }
    return solve(equations.a, equations.b);
}

void Refiner::estimate_position_error() {
    double sum = 2.0 * kPriorDisks * squared(spec_.position_error);
    double count = 2.0 * kPriorDisks - 1.0;  // one degree of freedom goes into the in-plane angle
    for (const Match& match : matches_) {
        if (match.reflection >= 0) {
            sum += match.distance_squared;
            count += 2.0;
        }
    }
    position_error_ = std::max(spec_.position_error, std::sqrt(sum / count));
}

double Refiner::seen(double amplitude, double excitation_error) const {
    return amplitude * std::exp(-0.5 * squared(excitation_error / (2.0 * spec_.excitation_error)));
}

}  // namespace microinfer::refinement
