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
/// Candidates that explain fewer disks less than this explain as many.
constexpr double kAsMany = 0.2;
/// Disks and reflections within this many match radii stay paired up while the orientation moves little.
constexpr double kPairingReach = 3.5;
/// A step shorter than this, in radians, ends the polishing.
constexpr double kConverged = 1e-6;
constexpr std::size_t kLanes = 16;  // reflections that are compared with a disk at a time

struct Disk {
    double qx, qy;
    double amplitude;         // square root of the relative intensity
    double excitation_error;  // its standard deviation in 1/Angstrom
};

/// A reflection that some disk may belong to.
struct Reflection {
    Vector3<double> crystal;  // in the crystal's frame, 1/Angstrom
    Vector3<double> g;        // in the lab frame
    double excitation_error;
    double amplitude;
};

struct Match {
    std::ptrdiff_t reflection;  // -1: none
    double distance_squared;    // in (1/Angstrom)^2
};

/// The reflections of one phase.
struct Crystal {
    const double* vectors;  // (count, 4)
    std::int64_t count;
    double longest;  // 1/Angstrom
};

double squared(double x) {
    return x * x;
}

/// Of a reciprocal lattice vector of this height over the detector plane and this squared length.
double excitation_error(double z, double length_squared, double wavelength) {
    return (2.0 * z - wavelength * length_squared) / (2.0 - 2.0 * wavelength * z);
}

Vector3<double> multiply(const Matrix3<double>& a, const Vector3<double>& v) {
    return {a.m[0][0] * v.x + a.m[0][1] * v.y + a.m[0][2] * v.z,
            a.m[1][0] * v.x + a.m[1][1] * v.y + a.m[1][2] * v.z,
            a.m[2][0] * v.x + a.m[2][1] * v.y + a.m[2][2] * v.z};
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

/// The disks of one pattern.
struct Pattern {
    std::vector<Disk> disks;
    double amplitudes = 0.0;  // their sum

    void read(const PaddedDisks& from, std::int64_t pattern, const RefinementSpec& spec) {
        disks.clear();
        amplitudes = 0.0;
        for (std::int64_t i = pattern * from.length; i < pattern * from.length + from.count[pattern]; ++i) {
            const double intensity = std::max(static_cast<double>(from.intensity[i]), 1e-6);
            const double error = spec.excitation_error -
                                 spec.excitation_slope * std::log(std::clamp(intensity, kWeakest, 1.0));
            const double radius = from.radius[i];
            const double angle = from.angle[i];
            disks.push_back(
                {radius * std::cos(angle), radius * std::sin(angle), std::sqrt(intensity), error});
            amplitudes += disks.back().amplitude;
        }
    }
};

/// One pattern against one candidate at a time; keeps its buffers.
class Refiner {
  public:
    Refiner(const RefinementSpec& spec, const Pattern& pattern)
        : spec_(spec),
          disks_(pattern.disks),
          pattern_(pattern),
          reach_(kExcitationReach * (spec.excitation_error - spec.excitation_slope * std::log(kWeakest))) {}

    /// Polishes `start`. Returns the orientation.
    Matrix3<double> polish(const Matrix3<double>& start, const Crystal& crystal) {
        Matrix3<double> inverse = transposed(start);  // crystal to lab
        departure_ = {0.0, 0.0, 0.0};
        matches_.resize(disks_.size());
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

    [[nodiscard]] double position_error() const { return position_error_; }

    /// Log-likelihood of the disks for the last orientation, given the error of their positions.
    [[nodiscard]] double log_likelihood(double position_error, double reach) const {
        const double area = std::numbers::pi * squared(reach);
        const double none = std::log(spec_.false_share / area);
        const double highest =
            std::log((1.0 - spec_.false_share) / (2.0 * std::numbers::pi * squared(position_error)));
        double sum = -0.5 * (squared(departure_.x) + squared(departure_.y)) / squared(spec_.tilt_error);
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            double value = none;
            if (matches_[i].reflection >= 0) {
                const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
                const double explained =
                    highest - 0.5 * matches_[i].distance_squared / squared(position_error) -
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
        return pattern_.amplitudes > 0.0 ? sum / pattern_.amplitudes : 0.0;
    }

    /// Correlation of measured and predicted amplitudes: |F| under the envelope of the strongest disk.
    [[nodiscard]] double score() const {
        double measured = 0.0;
        double both = 0.0;
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            measured += squared(disks_[i].amplitude);
            if (matches_[i].reflection >= 0) {
                const Reflection& reflection = reflections_[static_cast<std::size_t>(matches_[i].reflection)];
                const double near =
                    std::max(0.0, 1.0 - std::sqrt(matches_[i].distance_squared) / kCorrelationRadius);
                both += near * disks_[i].amplitude * seen(reflection.amplitude, reflection.excitation_error);
            }
        }
        const double norm = std::sqrt(predicted_ * measured);
        return norm > 0.0 ? std::min(1.0, both / norm) : 0.0;
    }

  private:
    /// Finds the reflections that may come near each disk while the orientation moves little.
    void pair_up(const Matrix3<double>& inverse, const Crystal& crystal) {
        const double margin = kPairingReach * spec_.match_radius;
        near_.clear();
        near_x_.clear();
        near_y_.clear();
        for (std::int64_t i = 0; i < crystal.count; ++i) {
            const double* const v = crystal.vectors + 4 * i;
            const Vector3<double> in_crystal = {v[0], v[1], v[2]};
            const double z = inverse.m[2][0] * v[0] + inverse.m[2][1] * v[1] + inverse.m[2][2] * v[2];
            const double error = excitation_error(z, dot(in_crystal, in_crystal), spec_.wavelength);
            if (std::abs(error) <= reach_ + margin) {
                const Vector3<double> g = multiply(inverse, in_crystal);
                near_.push_back({in_crystal, g, error, v[3]});
                near_x_.push_back(static_cast<float>(g.x));
                near_y_.push_back(static_cast<float>(g.y));
            }
        }
        const std::size_t whole = (near_.size() + kLanes - 1) / kLanes * kLanes;
        near_x_.resize(whole, 1e3F);
        near_y_.resize(whole, 1e3F);

        reflections_.clear();
        pairs_.clear();
        pairs_end_.clear();
        place_of_.assign(near_.size(), -1);
        const float farthest = static_cast<float>(squared(margin * (1.0 + 1e-5)));
        for (const Disk& disk : disks_) {
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

    /// Turns the reflections that are paired up.
    void place(const Matrix3<double>& inverse) {
        for (Reflection& reflection : reflections_) {
            reflection.g = multiply(inverse, reflection.crystal);
            reflection.excitation_error =
                excitation_error(reflection.g.z, dot(reflection.g, reflection.g), spec_.wavelength);
        }
    }

    /// Gives each disk the reflection within `radius` that explains it best.
    void match(double radius) {
        const double weight = 1.0 / squared(std::max(position_error_, 0.1 * spec_.match_radius));
        std::size_t pair = 0;
        for (std::size_t i = 0; i < disks_.size(); ++i) {
            const Disk& disk = disks_[i];
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

    /// Squared amplitude of everything that the last orientation predicts.
    void predict(const Matrix3<double>& inverse) {
        predicted_ = 0.0;
        for (const Reflection& reflection : near_) {
            const Vector3<double>& v = reflection.crystal;
            const double z = inverse.m[2][0] * v.x + inverse.m[2][1] * v.y + inverse.m[2][2] * v.z;
            const double error = excitation_error(z, dot(v, v), spec_.wavelength);
            if (std::abs(error) <= reach_) {
                predicted_ += squared(seen(reflection.amplitude, error));
            }
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

    [[nodiscard]] double seen(double amplitude, double excitation_error) const {
        return amplitude * std::exp(-0.5 * squared(excitation_error / (2.0 * spec_.excitation_error)));
    }

    const RefinementSpec& spec_;
    const std::vector<Disk>& disks_;
    const Pattern& pattern_;
    double reach_;  // of excitation errors, 1/Angstrom
    std::vector<Match> matches_;
    std::vector<Reflection> near_;  // near the Ewald sphere when the disks were paired up
    std::vector<float> near_x_;     // in the lab frame, filled up to whole lanes
    std::vector<float> near_y_;
    std::vector<std::ptrdiff_t> place_of_;  // of a near reflection among those that are paired up
    std::vector<Reflection> reflections_;   // that are paired up
    std::vector<std::ptrdiff_t> pairs_;     // reflections of the first disk, of the second, ...
    std::vector<std::size_t> pairs_end_;    // of each disk
    double moved_ = 0.0;                    // most that a reflection may have moved since, 1/Angstrom
    double predicted_ = 0.0;
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
            // which explain as many disks as the best one.
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
