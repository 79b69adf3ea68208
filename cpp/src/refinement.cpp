#include <microinfer/matrix3.hpp>
#include <microinfer/refinement.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <vector>

namespace microinfer {
namespace {

constexpr std::int64_t kBlock = 16;  // patterns
/// Reflections whose excitation error is larger than this many standard deviations are not looked at.
constexpr double kExcitationReach = 3.5;
/// Relative intensity of the weakest disks, which excitation errors no longer grow beyond.
constexpr double kWeakest = 0.01;
/// Disks' worth of trust in the smallest position error.
constexpr double kPriorDisks = 1.0;
/// Distance in 1/Angstrom at which a reflection no longer correlates with a disk (py4DSTEM's default kernel).
constexpr double kCorrelationRadius = 0.08;

struct Disk {
    double qx, qy;
    double amplitude;         // square root of the relative intensity
    double excitation_error;  // its standard deviation in 1/Angstrom
};

struct Reflection {
    Vector3<double> g;  // in the lab frame, 1/Angstrom
    double excitation_error;
    double amplitude;
};

struct Match {
    std::ptrdiff_t reflection;  // -1: none
    double distance_squared;    // in (1/Angstrom)^2
};

double squared(double x) {
    return x * x;
}

double excitation_error(const Vector3<double>& g, double wavelength) {
    return (2.0 * g.z - wavelength * dot(g, g)) / (2.0 - 2.0 * wavelength * g.z);
}

/// The rotation by |w| about w.
Matrix3<double> rotation(const Vector3<double>& w) {
    const double angle = std::sqrt(dot(w, w));
    const double a = angle > 1e-8 ? std::sin(angle) / angle : 1.0;
    const double b = angle > 1e-8 ? (1.0 - std::cos(angle)) / squared(angle) : 0.5;
    const Matrix3<double> k = cross_matrix(w);
    const Matrix3<double> kk = multiply(k, k);
    Matrix3<double> r = identity<double>();
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            r.m[i][j] += a * k.m[i][j] + b * kk.m[i][j];
        }
    }
    return r;
}

/// Solves a x = b for a symmetric positive definite a, by Cramer's rule.
Vector3<double> solve(const Matrix3<double>& a, const Vector3<double>& b) {
    const Vector3<double> r0{a.m[0][0], a.m[0][1], a.m[0][2]};
    const Vector3<double> r1{a.m[1][0], a.m[1][1], a.m[1][2]};
    const Vector3<double> r2{a.m[2][0], a.m[2][1], a.m[2][2]};
    const Vector3<double> c0 = cross(r1, r2);
    const Vector3<double> c1 = cross(r2, r0);
    const Vector3<double> c2 = cross(r0, r1);
    const double scale = 1.0 / dot(r0, c0);
    return {scale * (c0.x * b.x + c1.x * b.y + c2.x * b.z), scale * (c0.y * b.x + c1.y * b.y + c2.y * b.z),
            scale * (c0.z * b.x + c1.z * b.y + c2.z * b.z)};
}

/// The normal equations of a least-squares problem in three unknowns.
struct NormalEquations {
    Matrix3<double> a = filled(0.0);
    Vector3<double> b{0.0, 0.0, 0.0};

    /// Adds (residual - slope . x)^2 * weight.
    void add(const Vector3<double>& slope, double residual, double weight) {
        const double s[3] = {slope.x, slope.y, slope.z};
        for (int i = 0; i < 3; ++i) {
            for (int j = 0; j < 3; ++j) {
                a.m[i][j] += weight * s[i] * s[j];
            }
        }
        b.x += weight * residual * slope.x;
        b.y += weight * residual * slope.y;
        b.z += weight * residual * slope.z;
    }
};

/// One pattern against one candidate at a time; keeps its buffers.
class Refiner {
  public:
    explicit Refiner(const RefinementSpec& spec) : spec_(spec) {}

    void set_pattern(const PaddedDisks& disks, std::int64_t pattern) {
        disks_.clear();
        amplitudes_ = 0.0;
        for (std::int64_t i = pattern * disks.length; i < pattern * disks.length + disks.count[pattern];
             ++i) {
            const double intensity = std::max(static_cast<double>(disks.intensity[i]), 1e-6);
            const double error = spec_.excitation_error -
                                 spec_.excitation_slope * std::log(std::clamp(intensity, kWeakest, 1.0));
            const double radius = disks.radius[i];
            const double angle = disks.angle[i];
            disks_.push_back(
                {radius * std::cos(angle), radius * std::sin(angle), std::sqrt(intensity), error});
            amplitudes_ += disks_.back().amplitude;
        }
        matches_.resize(disks_.size());
    }

    /// Polishes `start`; `vectors` are `count` reflections of its phase. Returns the orientation.
    Matrix3<double> polish(const Matrix3<double>& start, const double* vectors, std::int64_t count) {
        Matrix3<double> inverse = transposed(start);  // crystal to lab
        Vector3<double> departure{0.0, 0.0, 0.0};
        position_error_ = 0.3 * spec_.match_radius;
        for (std::int32_t step = 0; step < spec_.steps; ++step) {
            place(inverse, vectors, count);
            match(step == 0 ? 2.0 * spec_.match_radius : spec_.match_radius);
            const Vector3<double> turn = improvement(departure);
            inverse = multiply(rotation(turn), inverse);
            departure = {departure.x + turn.x, departure.y + turn.y, departure.z + turn.z};
            place(inverse, vectors, count);
            match(spec_.match_radius);
            estimate_position_error();
        }
        departure_ = departure;
        return transposed(inverse);
    }

    [[nodiscard]] double position_error() const { return position_error_; }

    /// Log-likelihood of the disks for the last orientation, given the error of their positions.
    [[nodiscard]] double log_likelihood(double position_error, double reach) const {
        const double area = std::numbers::pi * squared(reach);
        const double none = std::log(spec_.false_share / area);
        double sum = -0.5 * (squared(departure_.x) + squared(departure_.y)) / squared(spec_.tilt_error);
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            double value = none;
            if (matches_[i].reflection >= 0) {
                const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
                const double explained =
                    std::log((1.0 - spec_.false_share) / (2.0 * std::numbers::pi * squared(position_error))) -
                    0.5 * matches_[i].distance_squared / squared(position_error) -
                    0.5 * squared(reflection.excitation_error / disks_[i].excitation_error);
                value = std::max(value, explained);
            }
            sum += value;
        }
        return sum;
    }

    /// Share of the disks' amplitude that lies on reflections.
    [[nodiscard]] double explained() const {
        double sum = 0.0;
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            sum += matches_[i].reflection >= 0 ? disks_[i].amplitude : 0.0;
        }
        return amplitudes_ > 0.0 ? sum / amplitudes_ : 0.0;
    }

    /// Correlation of measured and predicted amplitudes: |F| under the envelope of the strongest disk.
    [[nodiscard]] double score() const {
        double predicted = 0.0;
        for (const Reflection& reflection : reflections_) {
            predicted += squared(seen(reflection));
        }
        double measured = 0.0;
        double both = 0.0;
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            measured += squared(disks_[i].amplitude);
            if (matches_[i].reflection >= 0) {
                const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
                const double near =
                    std::max(0.0, 1.0 - std::sqrt(matches_[i].distance_squared) / kCorrelationRadius);
                both += near * disks_[i].amplitude * seen(reflection);
            }
        }
        const double norm = std::sqrt(predicted * measured);
        return norm > 0.0 ? std::min(1.0, both / norm) : 0.0;
    }

  private:
    /// Reflections near the Ewald sphere, in the lab frame.
    void place(const Matrix3<double>& inverse, const double* vectors, std::int64_t count) {
        const double reach =
            kExcitationReach * (spec_.excitation_error - spec_.excitation_slope * std::log(kWeakest));
        reflections_.clear();
        for (std::int64_t i = 0; i < count; ++i) {
            const double* const v = vectors + 4 * i;
            const Vector3<double> g = {
                inverse.m[0][0] * v[0] + inverse.m[0][1] * v[1] + inverse.m[0][2] * v[2],
                inverse.m[1][0] * v[0] + inverse.m[1][1] * v[1] + inverse.m[1][2] * v[2],
                inverse.m[2][0] * v[0] + inverse.m[2][1] * v[1] + inverse.m[2][2] * v[2]};
            const double error = excitation_error(g, spec_.wavelength);
            if (std::abs(error) <= reach) {
                reflections_.push_back({g, error, v[3]});
            }
        }
    }

    /// Gives each disk the reflection within `radius` that explains it best.
    void match(double radius) {
        const double weight = 1.0 / squared(std::max(position_error_, 0.1 * spec_.match_radius));
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            const Disk& disk = disks_[i];
            Match best = {-1, 0.0};
            double lowest = std::numeric_limits<double>::infinity();
            for (std::size_t j = 0; j < reflections_.size(); ++j) {
                const Reflection& reflection = reflections_[j];
                const double distance = squared(disk.qx - reflection.g.x) + squared(disk.qy - reflection.g.y);
                const double ratio = reflection.excitation_error / disk.excitation_error;
                if (distance > squared(radius) || std::abs(ratio) > kExcitationReach) {
                    continue;
                }
                const double cost = weight * distance + squared(ratio);
                if (cost < lowest) {
                    lowest = cost;
                    best = {static_cast<std::ptrdiff_t>(j), distance};
                }
            }
            matches_[i] = best;
        }
    }

    /// The small rotation of the lab frame that improves the fit of the matched disks.
    [[nodiscard]] Vector3<double> improvement(const Vector3<double>& departure) const {
        NormalEquations equations;
        const double tilt = 1.0 / squared(spec_.tilt_error);
        equations.add({1.0, 0.0, 0.0}, -departure.x, tilt);
        equations.add({0.0, 1.0, 0.0}, -departure.y, tilt);
        equations.add({0.0, 0.0, 1.0}, -departure.z, 1.0 / squared(spec_.in_plane_error));
        const double weight = 1.0 / squared(position_error_);
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            if (matches_[i].reflection < 0) {
                continue;
            }
            const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
            const Vector3<double>& g = reflection.g;
            // turned by w: g + w x g
            equations.add({0.0, g.z, -g.y}, disks_[i].qx - g.x, weight);
            equations.add({-g.z, 0.0, g.x}, disks_[i].qy - g.y, weight);
            equations.add({g.y, -g.x, 0.0}, -reflection.excitation_error,
                          1.0 / squared(disks_[i].excitation_error));
        }
        return solve(equations.a, equations.b);
    }

    void estimate_position_error() {
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

    [[nodiscard]] double seen(const Reflection& reflection) const {
        return reflection.amplitude *
               std::exp(-0.5 * squared(reflection.excitation_error / (2.0 * spec_.excitation_error)));
    }

    const RefinementSpec& spec_;
    std::vector<Disk> disks_;
    std::vector<Match> matches_;
    std::vector<Reflection> reflections_;
    double amplitudes_ = 0.0;
    double position_error_ = 0.0;
    Vector3<double> departure_{0.0, 0.0, 0.0};
};

/// Length of the longest reflection of a phase.
double reach_of(const double* vectors, std::int64_t count) {
    double longest = 0.0;
    for (std::int64_t i = 0; i < count; ++i) {
        const double* const v = vectors + 4 * i;
        longest = std::max(longest, v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    }
    return std::sqrt(longest);
}

}  // namespace

void refine(const PaddedDisks& disks, const Reflections& reflections, const Candidates& candidates,
            const RefinementSpec& spec, const Refined& refined) {
    const std::int64_t count = candidates.candidates;
    double reach = 0.0;
    for (std::int64_t phase = 0; phase < reflections.phases; ++phase) {
        const std::int64_t first = reflections.offsets[phase];
        reach = std::max(reach,
                         reach_of(reflections.vectors + 4 * first, reflections.offsets[phase + 1] - first));
    }
    parallel_for(disks.patterns, kBlock, [&](std::int64_t begin, std::int64_t end) {
        std::vector<Refiner> refiners(static_cast<std::size_t>(count), Refiner(spec));
        for (std::int64_t pattern = begin; pattern < end; ++pattern) {
            // The candidates are compared with one position error: the smallest that any of them leaves.
            double position_error = std::numeric_limits<double>::infinity();
            double most_explained = 0.0;
            for (std::int64_t k = 0; k < count; ++k) {
                Refiner& refiner = refiners[static_cast<std::size_t>(k)];
                const std::int64_t at = pattern * count + k;
                const std::int64_t first = reflections.offsets[candidates.phase[at]];
                const std::int64_t last = reflections.offsets[candidates.phase[at] + 1];
                refiner.set_pattern(disks, pattern);
                const Matrix3<double> polished = refiner.polish(
                    load(candidates.matrix + 9 * at), reflections.vectors + 4 * first, last - first);
                store(polished, refined.matrix + 9 * at);
                refined.explained[at] = refiner.explained();
                refined.score[at] = refiner.score();
                refined.position_error[at] = refiner.position_error();
                if (refiner.explained() > most_explained + 0.2) {
                    most_explained = refiner.explained();
                    position_error = refiner.position_error();
                } else if (refiner.explained() > most_explained - 0.2) {
                    most_explained = std::max(most_explained, refiner.explained());
                    position_error = std::min(position_error, refiner.position_error());
                }
            }
            for (std::int64_t k = 0; k < count; ++k) {
                refined.log_likelihood[pattern * count + k] =
                    refiners[static_cast<std::size_t>(k)].log_likelihood(position_error, reach);
            }
        }
    });
}

}  // namespace microinfer
