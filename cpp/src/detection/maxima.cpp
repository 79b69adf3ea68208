#include "maxima.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>
#include <utility>

namespace microinfer::detection {
namespace {

constexpr std::int64_t kTaps = 7;  // pixels of the interpolation, in each direction
constexpr std::int64_t kReach = kTaps / 2;
constexpr int kSteps = 4;          // of Newton's method
constexpr float kSettled = 2e-3F;  // pixels: the next step would be its square
constexpr float kFarthest = 1.0F;  // from the highest pixel to the maximum

/// Coefficients of the Lagrange polynomials through -3 ... 3: weight of tap i at t is sum_k [i][k] t^k.
using Polynomials = std::array<std::array<float, kTaps>, kTaps>;

Polynomials lagrange() {
    Polynomials result{};
    for (std::int64_t i = 0; i < kTaps; ++i) {
        std::array<double, kTaps + 1> polynomial{1.0};
        for (std::int64_t j = 0; j < kTaps; ++j) {
            if (j == i) {
                continue;
            }
            const double node = static_cast<double>(j - kReach);
            const double scale = 1.0 / static_cast<double>(i - j);
            std::array<double, kTaps + 1> product{};
            for (std::size_t k = 0; k < kTaps; ++k) {
                product[k] -= node * scale * polynomial[k];
                product[k + 1] += scale * polynomial[k];
            }
            polynomial = product;
        }
        for (std::size_t k = 0; k < kTaps; ++k) {
            result[static_cast<std::size_t>(i)][k] = static_cast<float>(polynomial[k]);
        }
    }
    return result;
}

/// Weights of the taps at a place, and their first and second derivatives.
struct Weights {
    std::array<float, kTaps> value, slope, bend;

    explicit Weights(float t) {
        static const Polynomials polynomials = lagrange();
        for (std::size_t i = 0; i < kTaps; ++i) {
            float v = 0.0F;
            float s = 0.0F;
            float b = 0.0F;
            for (std::size_t k = kTaps; k-- > 0;) {
                b = b * t + 2.0F * s;
                s = s * t + v;
                v = v * t + polynomials[i][k];
            }
            value[i] = v;
            slope[i] = s;
            bend[i] = b;
        }
    }
};

/// Where the parabola through three values is highest, from the middle one on.
float parabola(float before, float middle, float after) {
    const float bend = 4.0F * middle - 2.0F * before - 2.0F * after;
    return bend > 0.0F ? (after - before) / bend : 0.0F;
}

}  // namespace

Disc::Disc(float radius) : reach_(static_cast<std::int64_t>(std::ceil(radius + 0.5F))) {
    const auto offset = [](std::int64_t phase) { return static_cast<double>(phase - kHalf) / (2 * kHalf); };
    for (std::int64_t phase = 0; phase < kPhases * kPhases; ++phase) {
        Phase made;
        for (std::int64_t row = -reach_; row <= reach_; ++row) {
            const double dx = static_cast<double>(row) - offset(phase / kPhases);
            const double half = std::sqrt(std::max(static_cast<double>(radius) * radius - dx * dx, -1.0));
            if (half >= 0.0) {
                const double middle = offset(phase % kPhases);
                made.spans.push_back({static_cast<std::int32_t>(std::ceil(middle - half)),
                                      static_cast<std::int32_t>(std::floor(middle + half)) + 1});
            } else {
                made.spans.push_back({0, 0});
            }
            made.pixels += made.spans.back().end - made.spans.back().begin;
        }
        phases_.push_back(std::move(made));
    }
}

Disc::Sum Disc::sum(const float* frame, std::int64_t rows, std::int64_t columns, float x, float y,
                    const Transforms& loops) const {
    const auto pixel = [](float at) { return static_cast<std::int64_t>(std::floor(at + 0.5F)); };
    const std::int64_t px = pixel(x);
    const std::int64_t py = pixel(y);
    const auto phase = [](float at, std::int64_t whole) {
        const float steps = (at - static_cast<float>(whole)) * static_cast<float>(2 * kHalf);
        return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::lround(steps)) + kHalf, 0,
                                        kPhases - 1);
    };
    const Phase& made = phases_[static_cast<std::size_t>(phase(x, px) * kPhases + phase(y, py))];
    const Span* const spans = made.spans.data();
    if (px >= reach_ && py >= reach_ && px + reach_ < rows && py + reach_ < columns) {
        return {loops.sum_spans(frame + (px - reach_) * columns + py, columns, spans, 2 * reach_ + 1),
                made.pixels};
    }
    Sum result = {0.0F, 0};
    for (std::int64_t row = std::max<std::int64_t>(px - reach_, 0); row <= std::min(px + reach_, rows - 1);
         ++row) {
        const Span span = spans[row - px + reach_];
        for (std::int64_t column = std::max<std::int64_t>(py + span.begin, 0);
             column < std::min(py + span.end, columns); ++column) {
            result.counts += frame[row * columns + column];
            ++result.pixels;
        }
    }
    return result;
}

Maxima::Maxima(std::int64_t rows, std::int64_t columns, const float* floor, const DiskSpec& spec)
    : rows_(rows),
      columns_(columns),
      floor_(floor),
      spec_(spec),
      loops_(transforms()),
      disc_(spec.radius),
      inner_(spec.background_inner),
      outer_(spec.background_outer),
      cell_size_(std::max(spec.min_spacing, 1.0F) / std::numbers::sqrt2_v<float>),
      cell_columns_(cell(columns - 1) + 1),
      kept_(static_cast<std::size_t>((cell(rows - 1) + 1) * cell_columns_), -1) {}

void Maxima::add(const float* frame, const float* correlation, std::vector<Disk>& disks) {
    select(correlation);
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return a.correlation > b.correlation || (a.correlation == b.correlation && a.pixel < b.pixel);
    });
    float lowest = 0.0F;
    if (candidates_.size() > static_cast<std::size_t>(spec_.relative_to)) {
        lowest = spec_.min_relative * candidates_[static_cast<std::size_t>(spec_.relative_to)].correlation;
    }
    const std::size_t before = disks.size();
    for (const Candidate& candidate : candidates_) {
        if (candidate.correlation < lowest ||
            disks.size() - before == static_cast<std::size_t>(spec_.max_disks)) {
            break;
        }
        const std::int64_t x = candidate.pixel / columns_;
        const std::int64_t y = candidate.pixel % columns_;
        if (!is_alone(x, y)) {
            continue;
        }
        Disk disk = place(correlation, candidate);
        measure(frame, disk);
        if (disk.correlation >= spec_.min_snr * spec_.deviation(disk.correlation, disk.background)) {
            disks.push_back(disk);
            kept_[static_cast<std::size_t>(cell(x) * cell_columns_ + cell(y))] = candidate.pixel;
        }
    }
    for (const Candidate& candidate : candidates_) {
        kept_[static_cast<std::size_t>(cell(candidate.pixel / columns_) * cell_columns_ +
                                       cell(candidate.pixel % columns_))] = -1;
    }
}

std::int64_t Maxima::cell(std::int64_t x) const {
    return static_cast<std::int64_t>(static_cast<float>(x) / cell_size_);
}

bool Maxima::is_alone(std::int64_t x, std::int64_t y) const {
    const float closest = spec_.min_spacing * spec_.min_spacing;
    const std::int64_t cell_rows = static_cast<std::int64_t>(kept_.size()) / cell_columns_;
    for (std::int64_t i = std::max<std::int64_t>(cell(x) - 2, 0); i <= std::min(cell(x) + 2, cell_rows - 1);
         ++i) {
        for (std::int64_t j = std::max<std::int64_t>(cell(y) - 2, 0);
             j <= std::min(cell(y) + 2, cell_columns_ - 1); ++j) {
            const std::int64_t other = kept_[static_cast<std::size_t>(i * cell_columns_ + j)];
            const auto dx = static_cast<float>(x - other / columns_);
            const auto dy = static_cast<float>(y - other % columns_);
            if (other >= 0 && dx * dx + dy * dy < closest) {
                return false;
            }
        }
    }
    return true;
}

void Maxima::select(const float* correlation) {
    candidates_.clear();
    for (std::int64_t x = 0; x < rows_; ++x) {
        const float* const values = correlation + x * columns_;
        const float* const floors = floor_ + x * columns_;
        const auto test = [&](std::int64_t y) {
            if (values[y] > floors[y] && is_maximum(correlation, x, y)) {
                candidates_.push_back({values[y], x * columns_ + y});
            }
        };
        const bool inside = x > 0 && x + 1 < rows_;
        std::int64_t y = 0;
        if (inside) {
            test(y++);
            for (; y + kPanel < columns_; y += kPanel) {
                for (std::uint32_t bits = loops_.maxima(values + y, columns_, floors + y); bits != 0;
                     bits &= bits - 1) {
                    const std::int64_t at = y + std::countr_zero(bits);
                    candidates_.push_back({values[at], x * columns_ + at});
                }
            }
        }
        for (; y < columns_; ++y) {
            test(y);
        }
    }
}

bool Maxima::is_maximum(const float* correlation, std::int64_t x, std::int64_t y) const {
    const float value = correlation[x * columns_ + y];
    for (std::int64_t i = std::max<std::int64_t>(x - 1, 0); i <= std::min(x + 1, rows_ - 1); ++i) {
        for (std::int64_t j = std::max<std::int64_t>(y - 1, 0); j <= std::min(y + 1, columns_ - 1); ++j) {
            const float other = correlation[i * columns_ + j];
            const bool before = i < x || (i == x && j < y);
            if (before ? other >= value : other > value) {
                return false;
            }
        }
    }
    return true;
}

Disk Maxima::place(const float* correlation, const Candidate& candidate) const {
    const std::int64_t x = candidate.pixel / columns_;
    const std::int64_t y = candidate.pixel % columns_;
    Disk disk = {static_cast<float>(x), static_cast<float>(y), candidate.correlation, 0.0F, 0.0F};
    if (spec_.subpixel == Subpixel::none || x < 1 || y < 1 || x + 1 >= rows_ || y + 1 >= columns_) {
        return disk;
    }
    const float* const middle = correlation + candidate.pixel;
    float t = parabola(middle[-columns_], middle[0], middle[columns_]);
    float s = parabola(middle[-1], middle[0], middle[1]);
    if (spec_.subpixel == Subpixel::parabola || x < kReach || y < kReach || x + kReach >= rows_ ||
        y + kReach >= columns_) {
        disk.x += t;
        disk.y += s;
        return disk;
    }
    float value = candidate.correlation;
    for (int step = 0; step <= kSteps; ++step) {
        const Weights wx(t);
        const Weights wy(s);
        float v = 0.0F;
        float vx = 0.0F;
        float vy = 0.0F;
        float vxx = 0.0F;
        float vxy = 0.0F;
        float vyy = 0.0F;
        for (std::int64_t i = 0; i < kTaps; ++i) {
            const float* const row = middle + (i - kReach) * columns_ - kReach;
            float r = 0.0F;
            float ry = 0.0F;
            float ryy = 0.0F;
            for (std::size_t j = 0; j < kTaps; ++j) {
                r += wy.value[j] * row[j];
                ry += wy.slope[j] * row[j];
                ryy += wy.bend[j] * row[j];
            }
            const auto at = static_cast<std::size_t>(i);
            v += wx.value[at] * r;
            vx += wx.slope[at] * r;
            vxx += wx.bend[at] * r;
            vy += wx.value[at] * ry;
            vxy += wx.slope[at] * ry;
            vyy += wx.value[at] * ryy;
        }
        value = v;
        const float determinant = vxx * vyy - vxy * vxy;
        if (step == kSteps || !(vxx < 0.0F && determinant > 0.0F)) {
            break;
        }
        const float dt = (vyy * vx - vxy * vy) / determinant;
        const float ds = (vxx * vy - vxy * vx) / determinant;
        t = std::clamp(t - dt, -kFarthest, kFarthest);
        s = std::clamp(s - ds, -kFarthest, kFarthest);
        if (std::abs(dt) + std::abs(ds) < kSettled) {
            break;
        }
    }
    disk.x += t;
    disk.y += s;
    disk.correlation = std::max(value, candidate.correlation);
    return disk;
}

void Maxima::measure(const float* frame, Disk& disk) const {
    const auto sum = [&](const Disc& disc) {
        return disc.sum(frame, rows_, columns_, disk.x, disk.y, loops_);
    };
    const Disc::Sum inside = sum(disc_);
    const Disc::Sum inner = sum(inner_);
    const Disc::Sum outer = sum(outer_);
    const std::int64_t ring = outer.pixels - inner.pixels;
    disk.background = ring > 0 ? (outer.counts - inner.counts) / static_cast<float>(ring) : 0.0F;
    disk.intensity = inside.counts - disk.background * static_cast<float>(inside.pixels);
}

}  // namespace microinfer::detection
