#include "decoder.hpp"

#include <microinfer/matrix3.hpp>
#include <microinfer/procrustes_math.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <stdexcept>
#include <string>

namespace microinfer::networks {
namespace {

double dot(const Quaternion& p, const Quaternion& q) {
    return p.w * q.w + p.x * q.x + p.y * q.y + p.z * q.z;
}

/// The rotation q, then p.
Quaternion multiply(const Quaternion& p, const Quaternion& q) {
    return {p.w * q.w - p.x * q.x - p.y * q.y - p.z * q.z, p.w * q.x + p.x * q.w + p.y * q.z - p.z * q.y,
            p.w * q.y - p.x * q.z + p.y * q.w + p.z * q.x, p.w * q.z + p.x * q.y - p.y * q.x + p.z * q.w};
}

Quaternion conjugate(const Quaternion& q) {
    return {q.w, -q.x, -q.y, -q.z};
}

/// Of a rotation matrix: from whichever component is largest (Shepperd 1978).
Quaternion quaternion_of(const Matrix3<double>& a) {
    const double t = trace(a);
    const Vector3<double> w = skew_vector(a);
    Quaternion q{1.0 + t, w.x, w.y, w.z};
    const double x = a.m[0][0];
    const double y = a.m[1][1];
    const double z = a.m[2][2];
    if (t < std::max({x, y, z})) {
        const double xy = a.m[0][1] + a.m[1][0];
        const double xz = a.m[0][2] + a.m[2][0];
        const double yz = a.m[1][2] + a.m[2][1];
        q = x >= y && x >= z ? Quaternion{w.x, 1.0 + x - y - z, xy, xz}
            : y >= z         ? Quaternion{w.y, xy, 1.0 - x + y - z, yz}
                             : Quaternion{w.z, xz, yz, 1.0 - x - y + z};
    }
    const double norm = 1.0 / std::sqrt(dot(q, q));
    return {norm * q.w, norm * q.x, norm * q.y, norm * q.z};
}

Matrix3<double> matrix_of(const Quaternion& q) {
    return {
        {{1.0 - 2.0 * (q.y * q.y + q.z * q.z), 2.0 * (q.x * q.y - q.w * q.z), 2.0 * (q.x * q.z + q.w * q.y)},
         {2.0 * (q.x * q.y + q.w * q.z), 1.0 - 2.0 * (q.x * q.x + q.z * q.z), 2.0 * (q.y * q.z - q.w * q.x)},
         {2.0 * (q.x * q.z - q.w * q.y), 2.0 * (q.y * q.z + q.w * q.x),
          1.0 - 2.0 * (q.x * q.x + q.y * q.y)}}};
}

Matrix3<double> load_matrix(const float* elements) {
    Matrix3<double> a;
    for (int i = 0; i < 9; ++i) {
        a.m[i / 3][i % 3] = elements[i];
    }
    return a;
}

constexpr double kFar = 0.2;  // radians: the confidence's edge has ended

/// Angle of the rotation between two orientations, from the cosine of its half; anything beyond `kFar` counts
/// as far.
double distance_of(float cosine) {
    return cosine < 0.99F ? std::numbers::pi : 2.0 * std::acos(std::min(1.0, static_cast<double>(cosine)));
}

/// The candidates nearer to a mode's centre weigh more, with a smooth fall to nothing at the radius.
double bump(double distance, double radius) {
    const double inside = std::max(0.0, 1.0 - distance * distance / (radius * radius));
    return inside * inside;
}

/// exp(x), 0 where that would be hardly more; the library's function is slow where it underflows.
float exponential(float x) {
    return x < -80.0F ? 0.0F : std::exp(x);
}

/// What a wave's real (then imaginary) part of 1 adds to the log-density at a point of the grid, relative to
/// that at the angle 0.
float density_of_wave(const PosteriorSpec& spec, std::int64_t wave, std::int64_t point) {
    const double turned = 2.0 * std::numbers::pi *
                          static_cast<double>(spec.orders[wave % spec.order_count] * point) /
                          static_cast<double>(spec.angles);
    return static_cast<float>(wave < spec.order_count ? std::cos(turned) - 1.0 : -std::sin(turned));
}

}  // namespace

Decoder::Decoder(const Kernels& kernels, const PosteriorSpec& spec)
    : kernels_(kernels),
      cells_(spec.cells),
      top_cells_(std::min(spec.top_cells, spec.cells)),
      angles_(spec.angles),
      peaks_(spec.peaks),
      window_(spec.window),
      modes_(spec.modes),
      group_(spec.group),
      cells_edge_(spec.cells_edge),
      negligible_(spec.negligible),
      mode_radius_(spec.mode_radius),
      leading_(spec.leading),
      confidence_radius_(spec.confidence_radius),
      confidence_edge_(spec.confidence_edge),
      step_(static_cast<float>(2.0 * std::numbers::pi / static_cast<double>(spec.angles))),
      orders_(spec.orders, spec.orders + spec.order_count),
      phases_(spec.cell_phase, spec.cell_phase + spec.cells),
      density_(
          kernels, Numbers::float32, spec.angles, 2 * spec.order_count,
          [&](std::int64_t o, std::int64_t i) { return density_of_wave(spec, i, o); },
          [](std::int64_t) { return 0.0F; }) {
    if (std::max(mode_radius_, confidence_radius_ + 10.0 * confidence_edge_) > kFar) {
        throw std::invalid_argument("mode_radius and confidence_radius must end before " +
                                    std::to_string(kFar) + " radians");
    }
    for (std::int64_t w = -window_; w <= window_; ++w) {
        for (std::int64_t wave = 0; wave < 2 * spec.order_count; ++wave) {
            window_waves_.push_back(density_of_wave(spec, wave, w));
        }
    }
    for (std::int64_t k = 0; k < cells_; ++k) {
        frames_.push_back(quaternion_of(load_matrix(spec.frames + 9 * k)));
    }
    for (std::int64_t g = 0; g < spec.phases * spec.group; ++g) {
        operators_.push_back(quaternion_of(load_matrix(spec.operators + 9 * g)));
    }
}

Decoder::Scratch::Scratch(const Decoder& decoder)
    : cell(size(decoder.top_cells_ + 1)),
      probability(size(decoder.top_cells_)),
      waves(size(decoder.top_cells_) * 2 * decoder.orders_.size()),
      turned(2 * decoder.orders_.size()),
      density(size(decoder.top_cells_ * decoder.density_.columns())),
      angle(size(decoder.top_cells_)),
      centre_parts(size(4 * padded(decoder.group_, decoder.kernels_.panel))) {}

float Decoder::choose_cells(const float* logits, Scratch& scratch) const {
    const float total = kernels_.log_sum_exp(logits, cells_ + 1);
    // The best so far, falling; of equals the first. One more than is looked at.
    std::int64_t found = 0;
    for (std::int64_t k = 0; k < cells_; ++k) {
        if (found > top_cells_) {
            k = kernels_.next_above(logits, k, cells_, logits[scratch.cell[size(found - 1)]]);
            if (k == cells_) {
                break;
            }
        }
        std::int64_t at = found <= top_cells_ ? found++ : found - 1;
        for (; at > 0 && logits[scratch.cell[size(at - 1)]] < logits[k]; --at) {
            scratch.cell[size(at)] = scratch.cell[size(at - 1)];
        }
        scratch.cell[size(at)] = k;
    }
    // How far above the first that is not looked at; the first cell counts in full.
    const auto above = [&](std::int64_t c) {
        return found <= top_cells_
                   ? std::numeric_limits<double>::infinity()
                   : double{logits[scratch.cell[size(c)]]} - logits[scratch.cell[size(top_cells_)]];
    };
    const double edge = std::min(above(0), cells_edge_);
    scratch.cells = 0;
    for (std::int64_t c = 0; c < std::min(found, top_cells_); ++c) {
        const double share = above(c) < edge ? above(c) / edge : 1.0;
        const auto probability = static_cast<float>(share * std::exp(logits[scratch.cell[size(c)]] - total));
        if (c > 0 && probability < negligible_ * scratch.probability[0]) {
            break;
        }
        scratch.probability[size(c)] = probability;
        scratch.cells = c + 1;
    }
    return std::exp(logits[cells_] - total);
}

/// Calls `each(n, order, cos(order * angle), sin(order * angle))` for every order.
template <typename Each>
void Decoder::for_orders(float angle, const Each& each) const {
    const double c = std::cos(double{angle});
    const double s = std::sin(double{angle});
    double cosine = 1.0;
    double sine = 0.0;
    std::int64_t power = 0;
    for (std::size_t n = 0; n < orders_.size(); ++n) {  // which rise
        for (; power < orders_[n]; ++power) {
            const double next = cosine * c - sine * s;
            sine = sine * c + cosine * s;
            cosine = next;
        }
        each(n, static_cast<double>(orders_[n]), cosine, sine);
    }
}

/// Makes waves those of the density whose zero lies at the angle; returns by how much the log-density is
/// higher there than at the zero so far.
float Decoder::turn(float* waves, float angle) const {
    const std::size_t imaginary = orders_.size();
    double higher = 0.0;
    for_orders(angle, [&](std::size_t n, double, double c, double s) {
        const double a = waves[n];
        const double b = waves[imaginary + n];
        higher += a * (c - 1.0) - b * s;
        waves[n] = static_cast<float>(a * c - b * s);
        waves[imaginary + n] = static_cast<float>(a * s + b * c);
    });
    return static_cast<float>(higher);
}

/// From a grid point to the maximum beside it, by Newton's method within one grid step.
float Decoder::climb(const float* waves, float start) const {
    const std::size_t imaginary = orders_.size();
    float angle = start;
    for (int iteration = 0; iteration < 3; ++iteration) {
        double slope = 0.0;
        double curvature = 0.0;
        for_orders(angle, [&](std::size_t n, double order, double c, double s) {
            slope -= order * (waves[n] * s + waves[imaginary + n] * c);
            curvature -= order * order * (waves[n] * c - waves[imaginary + n] * s);
        });
        const auto step = static_cast<float>(curvature < 0.0 ? -slope / std::min(curvature, -1e-6)
                                             : slope > 0.0   ? step_
                                             : slope < 0.0   ? -step_
                                                             : 0.0);
        angle = start + std::clamp(angle + step - start, -step_, step_);
    }
    return angle;
}

void Decoder::find_candidates(Scratch& scratch) const {
    const std::int64_t numbers = 2 * static_cast<std::int64_t>(orders_.size());
    const std::int64_t columns = density_.columns();
    density_(scratch.waves.data(), numbers, scratch.cells, scratch.density.data(), columns);
    // The grid is laid upon the highest peak, so that it turns with the pattern, and the log-density is
    // relative to that peak's: where it counts it is small, so that float32 holds enough of its digits.
    for (std::int64_t c = 0; c < scratch.cells; ++c) {
        const float* const density = scratch.density.data() + c * columns;
        float* const waves = scratch.waves.data() + c * numbers;
        const std::int64_t highest = kernels_.highest(density, angles_);
        scratch.angle[size(c)] = climb(waves, static_cast<float>(highest) * step_);
        turn(waves, scratch.angle[size(c)]);
    }
    density_(scratch.waves.data(), numbers, scratch.cells, scratch.density.data(), columns);

    scratch.candidate.clear();
    const double least = negligible_ * scratch.probability[0];
    for (std::int64_t c = 0; c < scratch.cells; ++c) {
        const float* const density = scratch.density.data() + c * columns;
        scratch.peak.clear();
        bool rises = density[0] >= density[angles_ - 1];
        for (std::int64_t a = 0; a < angles_; ++a) {
            const bool falls = density[a] > density[a + 1 < angles_ ? a + 1 : 0];
            if (rises && falls) {
                scratch.peak.push_back(a);
            }
            rises = !falls;
        }
        std::stable_sort(scratch.peak.begin(), scratch.peak.end(),
                         [&](std::int64_t a, std::int64_t b) { return density[a] > density[b]; });
        scratch.peak.resize(std::min(scratch.peak.size(), size(peaks_)));
        const float total = kernels_.log_sum_exp(density, angles_);
        const std::int64_t cell = scratch.cell[size(c)];
        for (const std::int64_t peak : scratch.peak) {
            // A peak between two grid points is little higher than the nearer one.
            if (scratch.probability[size(c)] * exponential(density[peak] + 1.0F - total) *
                    static_cast<float>(2 * window_ + 1) <
                least) {
                break;
            }
            const float* const waves = scratch.waves.data() + c * numbers;
            const float angle = climb(waves, static_cast<float>(peak) * step_);
            const double weight = scratch.probability[size(c)] * mass(waves, angle, scratch, total);
            if (weight >= least) {
                const double half = 0.5 * static_cast<double>(angle + scratch.angle[size(c)]);
                scratch.candidate.push_back(
                    {multiply(frames_[size(cell)], {std::cos(half), 0.0, 0.0, std::sin(half)}), weight,
                     phases_[size(cell)]});
            }
        }
    }
}

/// Probability of the peak at an angle, given the density's normalisation.
float Decoder::mass(const float* waves, float angle, Scratch& scratch, float total) const {
    const std::size_t orders = orders_.size();
    float* const turned = scratch.turned.data();
    std::copy_n(waves, 2 * orders, turned);
    const float higher = turn(turned, angle);
    float sum = 0.0F;
    for (std::size_t w = 0; w < size(2 * window_ + 1); ++w) {
        const float* const wave = window_waves_.data() + w * 2 * orders;
        float value = higher - total;
        for (std::size_t n = 0; n < 2 * orders; ++n) {
            value += turned[n] * wave[n];
        }
        sum += exponential(value);
    }
    return sum;
}

/// Lays the candidates' quaternions out for `measure`.
void Decoder::lay_out(Scratch& scratch) const {
    const auto count = static_cast<std::int64_t>(scratch.candidate.size());
    const std::size_t stride = size(padded(count, kernels_.panel));
    scratch.parts.assign(4 * stride, 0.0F);
    scratch.cosine.resize(stride);
    scratch.nearest.resize(stride);
    for (std::size_t i = 0; i < scratch.candidate.size(); ++i) {
        const Quaternion& q = scratch.candidate[i].rotation;
        const double part[4] = {q.w, q.x, q.y, q.z};
        for (std::size_t j = 0; j < 4; ++j) {
            scratch.parts[j * stride + i] = static_cast<float>(part[j]);
        }
    }
}

/// How far each candidate is from the centre, equivalents taken together.
void Decoder::measure(Scratch& scratch, const Quaternion& centre, std::int64_t phase) const {
    const std::size_t group = size(padded(group_, kernels_.panel));
    for (std::int64_t g = 0; g < group_; ++g) {
        const Quaternion q = multiply(conjugate(operators_[size(phase * group_ + g)]), centre);
        const double part[4] = {q.w, q.x, q.y, q.z};
        for (std::size_t j = 0; j < 4; ++j) {
            scratch.centre_parts[j * group + size(g)] = static_cast<float>(part[j]);
        }
    }
    const auto view = [](std::vector<float>& parts, std::int64_t count) {
        float* const p = parts.data();
        const std::size_t stride = parts.size() / 4;
        return QuaternionsView{{p, p + stride, p + 2 * stride, p + 3 * stride}, count};
    };
    kernels_.nearest(view(scratch.parts, static_cast<std::int64_t>(scratch.candidate.size())),
                     view(scratch.centre_parts, group_), scratch.cosine.data(), scratch.nearest.data());
}

void Decoder::find_modes(Scratch& scratch, float* matrix, std::int64_t* phase, float* probability) const {
    find_candidates(scratch);
    std::vector<Mode> modes(size(modes_), {identity<double>(), phases_[size(scratch.cell[0])], 0.0});
    for (Mode& mode : modes) {
        if (scratch.candidate.empty()) {
            break;
        }
        lay_out(scratch);
        find_mode(scratch, mode);
    }
    std::stable_sort(modes.begin(), modes.end(),
                     [](const Mode& a, const Mode& b) { return a.probability > b.probability; });
    for (std::size_t m = 0; m < modes.size(); ++m) {
        for (int j = 0; j < 9; ++j) {
            matrix[9 * m + size(j)] = static_cast<float>(modes[m].centre.m[j / 3][j % 3]);
        }
        phase[m] = modes[m].phase;
        probability[m] = static_cast<float>(modes[m].probability);
    }
}

/// Weighted mean rotation of the candidates of a phase near the measured centre, equivalents taken together.
template <typename Weigh>
Matrix3<double> Decoder::mean(const Scratch& scratch, std::int64_t phase, const Weigh& weigh) const {
    Matrix3<double> sum = filled(0.0);
    for (std::size_t i = 0; i < scratch.candidate.size(); ++i) {
        const Candidate& candidate = scratch.candidate[i];
        const double distance = distance_of(scratch.cosine[i]);
        if (candidate.phase != phase || distance >= mode_radius_) {
            continue;
        }
        const double weight = weigh(candidate.weight, distance);
        const Quaternion& best = operators_[size(phase * group_ + scratch.nearest[i])];
        const Matrix3<double> equivalent = matrix_of(multiply(best, candidate.rotation));
        for (int j = 0; j < 9; ++j) {
            sum.m[j / 3][j % 3] += weight * equivalent.m[j / 3][j % 3];
        }
    }
    return nearest_rotation(sum);
}

/// The mode around the heaviest candidate; its candidates leave.
void Decoder::find_mode(Scratch& scratch, Mode& mode) const {
    std::vector<Candidate>& candidates = scratch.candidate;
    const auto heaviest =
        std::max_element(candidates.begin(), candidates.end(),
                         [](const Candidate& a, const Candidate& b) { return a.weight < b.weight; });
    mode.phase = heaviest->phase;
    heaviest->leaves = true;
    const double lightest = leading_ * heaviest->weight;  // that leads, so that of equals none decides
    const auto measure_from = [&](const Quaternion& centre) { measure(scratch, centre, mode.phase); };
    measure_from(heaviest->rotation);
    std::int64_t leaders = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        leaders += candidates[i].phase == mode.phase && candidates[i].weight > lightest &&
                   distance_of(scratch.cosine[i]) < mode_radius_;
    }
    // Twice, so that it does not count which of equals is the heaviest. One that leads alone is the centre.
    for (int turn = 0; turn < 2 && leaders > 1; ++turn) {
        mode.centre = mean(scratch, mode.phase, [&](double weight, double distance) {
            const double near = std::min(1.0, (1.0 - distance / mode_radius_) / (1.0 - leading_));
            return weight * std::max(0.0, weight - lightest) * near;
        });
        measure_from(quaternion_of(mode.centre));
    }
    for (int pass = 0; pass < 2; ++pass) {
        mode.centre = mean(scratch, mode.phase, [&](double weight, double distance) {
            return weight * bump(distance, mode_radius_);
        });
        measure_from(quaternion_of(mode.centre));
    }
    std::size_t left = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        Candidate candidate = candidates[i];
        const double distance = distance_of(scratch.cosine[i]);
        if (candidate.phase == mode.phase && distance < kFar) {
            const double inside = 1.0 / (1.0 + std::exp((distance - confidence_radius_) / confidence_edge_));
            mode.probability += candidate.weight * inside;
            candidate.weight *= 1.0 - inside;
            candidate.leaves |= distance < mode_radius_;
        }
        if (!candidate.leaves) {
            candidates[left++] = candidate;
        }
    }
    candidates.resize(left);
}

}  // namespace microinfer::networks
