#include "decoder.hpp"

#include <microinfer/procrustes_math.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <utility>

namespace microinfer::networks {
namespace {

constexpr std::int64_t kTopCells = 16;  // that are looked at; others hold next to no probability near a mode
/// Peaks with less than this share of the most probable cell's probability are dropped.
constexpr double kNegligible = 1e-6;
/// Points of the grid on which the in-plane densities are read, and their distance in radians: fine enough
/// for their sums to turn with the pattern.
constexpr std::int64_t kAngles = 360;
constexpr float kStep = static_cast<float>(2.0 * std::numbers::pi / kAngles);
/// Peaks of a density that are looked for, and grid points on either side whose probability belongs to one.
constexpr std::size_t kPeaks = 6;
constexpr std::int64_t kWindow = 6;
constexpr double kDegree = std::numbers::pi / 180.0;
/// Peaks further from a mode's centre than this do not enter its mean: wide enough for those around a zone
/// axis to have one.
constexpr double kModeRadius = 10.0 * kDegree;
/// Means that are taken around each other, until one is as good as where the last was: then it does not
/// matter which of nearly equal peaks came first.
constexpr int kMeans = 12;
constexpr double kSettled = 1e-11;  // sin^2 of half the angle
/// A mode's probability counts the peaks this near: 3 degrees and the cells' own spread.
constexpr double kConfidenceRadius = 4.0 * kDegree;

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

Quaternion quaternion_of(const float* elements) {
    Matrix3<double> a;
    for (int i = 0; i < 9; ++i) {
        a.m[i / 3][i % 3] = elements[i];
    }
    return quaternion_of(a);
}

/// How far two rotations are from each other: sin^2 of half the angle.
double part_of_turn(const Quaternion& p, const Quaternion& q) {
    const double cosine = dot(p, q);
    return 1.0 - cosine * cosine;
}

double part_of_turn(double angle) {
    const double sine = std::sin(0.5 * angle);
    return sine * sine;
}

/// exp(x), 0 where that would be hardly more; the library's function is slow where it underflows.
float exponential(float x) {
    return x < -80.0F ? 0.0F : std::exp(x);
}

/// What a wave's real (then imaginary) part of 1 adds to the log-density at a point of the grid.
float density_of_wave(std::int64_t wave, std::int64_t point) {
    const std::int64_t order = kOrders[size(wave % (kWaves / 2))];
    const double turned = 2.0 * std::numbers::pi * static_cast<double>(order * point) / kAngles;
    return static_cast<float>(wave < kWaves / 2 ? std::cos(turned) : -std::sin(turned));
}

/// From a grid point to the maximum beside it, by Newton's method within one grid step.
double climb(const float* waves, double start) {
    double angle = start;
    for (int iteration = 0; iteration < 3; ++iteration) {
        double slope = 0.0;
        double curvature = 0.0;
        for (std::size_t n = 0; n < kOrders.size(); ++n) {
            const auto order = static_cast<double>(kOrders[n]);
            const double a = waves[n];
            const double b = waves[kOrders.size() + n];
            const double c = std::cos(order * angle);
            const double s = std::sin(order * angle);
            slope -= order * (a * s + b * c);
            curvature -= order * order * (a * c - b * s);
        }
        const double step = curvature < 0.0 ? -slope / std::min(curvature, -1e-6)
                            : slope > 0.0   ? double{kStep}
                            : slope < 0.0   ? -double{kStep}
                                            : 0.0;
        angle = start + std::clamp(angle + step - start, -double{kStep}, double{kStep});
    }
    return angle;
}

}  // namespace

/// Where a posterior concentrates.
struct Decoder::Mode {
    Matrix3<double> centre;
    std::int64_t phase;
    double probability;
};

Decoder::Decoder(const Kernels& kernels, std::int64_t cells, const float* frames,
                 const std::int64_t* cell_phase, const std::vector<Phase>& phases)
    : kernels_(kernels),
      cells_(cells),
      top_cells_(std::min(kTopCells, cells)),
      phases_(cell_phase, cell_phase + cells),
      density_(
          kernels, Numbers::float32, kAngles, kWaves,
          [](std::int64_t point, std::int64_t wave) { return density_of_wave(wave, point); },
          [](std::int64_t) { return 0.0F; }) {
    for (std::int64_t k = 0; k < cells; ++k) {
        frames_.push_back(quaternion_of(frames + 9 * k));
    }
    for (const Phase& phase : phases) {
        group_ = std::max(group_, static_cast<std::int64_t>(phase.operators.size()));
    }
    for (const Phase& phase : phases) {
        for (const Matrix3<double>& operation : phase.operators) {
            operators_.push_back(quaternion_of(operation));
        }
        operators_.resize(operators_.size() + size(group_) - phase.operators.size(), {1.0, 0.0, 0.0, 0.0});
    }
}

Decoder::Scratch::Scratch(const Decoder& decoder)
    : cell(size(decoder.top_cells_)),
      probability(size(decoder.top_cells_)),
      waves(size(decoder.top_cells_ * kWaves)),
      density(size(decoder.top_cells_ * decoder.density_.columns())),
      centre_parts(size(4 * padded(decoder.group_, decoder.kernels_.panel))) {}

float Decoder::choose_cells(const float* logits, Scratch& scratch) const {
    const float total = kernels_.log_sum_exp(logits, cells_ + 1);
    // The best so far, falling; of equals the first.
    std::int64_t found = 0;
    for (std::int64_t k = 0; k < cells_; ++k) {
        if (found == top_cells_) {
            k = kernels_.next_above(logits, k, cells_, logits[scratch.cell[size(found - 1)]]);
            if (k == cells_) {
                break;
            }
        }
        std::int64_t at = found < top_cells_ ? found++ : found - 1;
        for (; at > 0 && logits[scratch.cell[size(at - 1)]] < logits[k]; --at) {
            scratch.cell[size(at)] = scratch.cell[size(at - 1)];
        }
        scratch.cell[size(at)] = k;
    }
    scratch.cells = 0;
    for (std::int64_t c = 0; c < found; ++c) {
        const float probability = std::exp(logits[scratch.cell[size(c)]] - total);
        if (c > 0 && probability < kNegligible * scratch.probability[0]) {
            break;
        }
        scratch.probability[size(c)] = probability;
        scratch.cells = c + 1;
    }
    return std::exp(logits[cells_] - total);
}

void Decoder::find_peaks(Scratch& scratch) const {
    const std::int64_t columns = density_.columns();
    density_(scratch.waves.data(), kWaves, scratch.cells, scratch.density.data(), columns);
    scratch.peak.clear();
    const double least = kNegligible * scratch.probability[0];
    for (std::int64_t c = 0; c < scratch.cells; ++c) {
        const float* const density = scratch.density.data() + c * columns;
        std::vector<std::int64_t>& highest = scratch.highest;
        highest.clear();
        bool rises = density[0] >= density[kAngles - 1];
        for (std::int64_t a = 0; a < kAngles; ++a) {
            const bool falls = density[a] > density[a + 1 < kAngles ? a + 1 : 0];
            if (rises && falls) {
                highest.push_back(a);
            }
            rises = !falls;
        }
        std::stable_sort(highest.begin(), highest.end(),
                         [&](std::int64_t a, std::int64_t b) { return density[a] > density[b]; });
        highest.resize(std::min(highest.size(), kPeaks));
        const float total = kernels_.log_sum_exp(density, kAngles);
        const std::size_t cell = size(scratch.cell[size(c)]);
        for (const std::int64_t peak : highest) {
            float mass = 0.0F;
            for (std::int64_t a = peak - kWindow; a <= peak + kWindow; ++a) {
                mass += exponential(density[(a + kAngles) % kAngles] - total);
            }
            const double weight = double{scratch.probability[size(c)]} * mass;
            if (weight < least) {
                break;
            }
            const double half =
                0.5 * climb(scratch.waves.data() + c * kWaves, static_cast<double>(peak) * kStep);
            const Quaternion rotation = multiply(frames_[cell], {std::cos(half), 0.0, 0.0, std::sin(half)});
            scratch.peak.push_back({rotation, weight, phases_[cell]});
        }
    }
}

/// Of each peak the equivalent nearest to a centre.
void Decoder::bring_near(Scratch& scratch, const Quaternion& centre, std::int64_t phase) const {
    const std::size_t count = scratch.peak.size();
    const std::size_t stride = size(padded(static_cast<std::int64_t>(count), kernels_.panel));
    const std::size_t group = size(padded(group_, kernels_.panel));
    scratch.parts.assign(4 * stride, 0.0F);
    scratch.cosine.resize(stride);
    scratch.nearest.resize(stride);
    scratch.near.resize(count);
    const auto lay_out = [](std::vector<float>& parts, std::size_t columns, std::size_t at,
                            const Quaternion& q) {
        const double part[4] = {q.w, q.x, q.y, q.z};
        for (std::size_t j = 0; j < 4; ++j) {
            parts[j * columns + at] = static_cast<float>(part[j]);
        }
    };
    for (std::size_t i = 0; i < count; ++i) {
        lay_out(scratch.parts, stride, i, scratch.peak[i].rotation);
    }
    const Quaternion* const operators = operators_.data() + phase * group_;
    for (std::int64_t g = 0; g < group_; ++g) {
        lay_out(scratch.centre_parts, group, size(g), multiply(conjugate(operators[g]), centre));
    }
    const auto view = [](std::vector<float>& parts, std::int64_t rotations) {
        float* const p = parts.data();
        const std::size_t columns = parts.size() / 4;
        return QuaternionsView{{p, p + columns, p + 2 * columns, p + 3 * columns}, rotations};
    };
    kernels_.nearest(view(scratch.parts, static_cast<std::int64_t>(count)),
                     view(scratch.centre_parts, group_), scratch.cosine.data(), scratch.nearest.data());
    for (std::size_t i = 0; i < count; ++i) {
        scratch.near[i] = multiply(operators[scratch.nearest[i]], scratch.peak[i].rotation);
    }
}

double Decoder::find_modes(Scratch& scratch, float* matrix, std::int64_t* phase, float* probability) const {
    find_peaks(scratch);
    std::array<Mode, kModes> modes;
    modes.fill({identity<double>(), phases_[size(scratch.cell[0])], 0.0});
    for (Mode& mode : modes) {
        if (scratch.peak.empty()) {
            break;
        }
        find_mode(scratch, mode);
    }
    std::stable_sort(modes.begin(), modes.end(),
                     [](const Mode& a, const Mode& b) { return a.probability > b.probability; });
    double sum = 0.0;
    for (std::size_t m = 0; m < modes.size(); ++m) {
        for (std::size_t j = 0; j < 9; ++j) {
            matrix[9 * m + j] = static_cast<float>(modes[m].centre.m[j / 3][j % 3]);
        }
        phase[m] = modes[m].phase;
        probability[m] = static_cast<float>(modes[m].probability);
        sum += modes[m].probability;
    }
    return sum;
}

/// Weighted mean rotation of the peaks of a phase near a centre.
Matrix3<double> Decoder::mean(const Scratch& scratch, const Quaternion& centre, std::int64_t phase) {
    const double radius = part_of_turn(kModeRadius);
    Matrix3<double> sum = filled(0.0);
    for (std::size_t i = 0; i < scratch.peak.size(); ++i) {
        const Peak& peak = scratch.peak[i];
        const double share = part_of_turn(scratch.near[i], centre) / radius;
        if (peak.phase != phase || share >= 1.0) {
            continue;
        }
        const double fall = 1.0 - share;  // smoothly to nothing at the radius
        const Matrix3<double> rotation = matrix_of(scratch.near[i]);
        for (int j = 0; j < 9; ++j) {
            sum.m[j / 3][j % 3] += peak.weight * fall * fall * rotation.m[j / 3][j % 3];
        }
    }
    return nearest_rotation(sum);
}

/// The mode around the heaviest peak; its peaks leave.
void Decoder::find_mode(Scratch& scratch, Mode& mode) const {
    std::vector<Peak>& peaks = scratch.peak;
    const auto heaviest = std::max_element(peaks.begin(), peaks.end(),
                                           [](const Peak& a, const Peak& b) { return a.weight < b.weight; });
    mode.phase = heaviest->phase;
    Quaternion centre = heaviest->rotation;
    bring_near(scratch, centre, mode.phase);
    double moved = 1.0;
    for (int means = 0; means < kMeans && moved > kSettled; ++means) {
        mode.centre = mean(scratch, centre, mode.phase);
        const Quaternion last = std::exchange(centre, quaternion_of(mode.centre));
        moved = part_of_turn(last, centre);
    }
    const auto at = static_cast<std::size_t>(heaviest - peaks.begin());
    std::size_t left = 0;
    const double mode_part = part_of_turn(kModeRadius);
    const double confidence_part = part_of_turn(kConfidenceRadius);
    for (std::size_t i = 0; i < peaks.size(); ++i) {
        const double part = peaks[i].phase == mode.phase ? part_of_turn(scratch.near[i], centre) : 1.0;
        mode.probability += part < confidence_part ? peaks[i].weight : 0.0;
        if (part >= mode_part && i != at) {
            peaks[left++] = peaks[i];
        }
    }
    peaks.resize(left);
}

}  // namespace microinfer::networks
