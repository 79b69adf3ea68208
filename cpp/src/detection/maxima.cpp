#include "maxima.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace microinfer::detection {
namespace {

constexpr std::int64_t kTaps = 7;  // pixels of the interpolation, in each direction
constexpr std::int64_t kReach = kTaps / 2;
constexpr int kSteps = 4;          // of Newton's method
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

Maxima::Maxima(std::int64_t rows, std::int64_t columns, const float* floor, const bool* good,
               const DiskSpec& spec)
    : rows_(rows), columns_(columns), floor_(floor), good_(good), spec_(spec), loops_(transforms()) {}

void Maxima::add(const float* frame, const float* correlation, std::vector<Disk>& disks) {
    select(correlation);
    std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
        return a.correlation > b.correlation || (a.correlation == b.correlation && a.pixel < b.pixel);
    });
    if (candidates_.size() > static_cast<std::size_t>(spec_.relative_to)) {
        const float lowest =
            spec_.min_relative * candidates_[static_cast<std::size_t>(spec_.relative_to)].correlation;
        candidates_.erase(std::find_if(candidates_.begin(), candidates_.end(),
                                       [&](const Candidate& one) { return one.correlation < lowest; }),
                          candidates_.end());
    }
    drop_close();
    for (const Candidate& candidate : candidates_) {
        Disk disk = place(correlation, candidate);
        measure(frame, disk);
        disks.push_back(disk);
    }
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
        std::int64_t y = 0;
        for (; y + kPanel <= columns_; y += kPanel) {
            if (loops_.any_above(values + y, floors + y)) {
                for (std::int64_t i = y; i < y + kPanel; ++i) {
                    test(i);
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

void Maxima::drop_close() {
    const auto most = static_cast<std::size_t>(spec_.max_disks);
    const float closest = spec_.min_spacing * spec_.min_spacing;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < candidates_.size() && kept < most; ++i) {
        const auto x = static_cast<float>(candidates_[i].pixel / columns_);
        const auto y = static_cast<float>(candidates_[i].pixel % columns_);
        const bool alone =
            std::none_of(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(kept),
                         [&](const Candidate& other) {
                             const float dx = x - static_cast<float>(other.pixel / columns_);
                             const float dy = y - static_cast<float>(other.pixel % columns_);
                             return dx * dx + dy * dy < closest;
                         });
        if (alone) {
            candidates_[kept++] = candidates_[i];
        }
    }
    candidates_.resize(kept);
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
        t = std::clamp(t - (vyy * vx - vxy * vy) / determinant, -kFarthest, kFarthest);
        s = std::clamp(s - (vxx * vy - vxy * vx) / determinant, -kFarthest, kFarthest);
    }
    disk.x += t;
    disk.y += s;
    disk.correlation = std::max(value, candidate.correlation);
    return disk;
}

void Maxima::measure(const float* frame, Disk& disk) const {
    const float disk_square = spec_.radius * spec_.radius;
    const float inner_square = spec_.background_inner * spec_.background_inner;
    const float outer = spec_.background_outer;
    float inside = 0.0F;
    float around = 0.0F;
    std::int64_t area = 0;
    std::int64_t good = 0;
    std::int64_t ring = 0;
    const auto first = [](float from) { return static_cast<std::int64_t>(std::ceil(from)); };
    const auto last = [](float to) { return static_cast<std::int64_t>(std::floor(to)); };
    for (std::int64_t x = std::max<std::int64_t>(first(disk.x - outer), 0);
         x <= std::min(last(disk.x + outer), rows_ - 1); ++x) {
        const float dx = static_cast<float>(x) - disk.x;
        const float reach = std::sqrt(std::max(outer * outer - dx * dx, 0.0F));
        const std::int64_t end = std::min(last(disk.y + reach), columns_ - 1);
        for (std::int64_t y = std::max<std::int64_t>(first(disk.y - reach), 0); y <= end; ++y) {
            const float dy = static_cast<float>(y) - disk.y;
            const float square = dx * dx + dy * dy;
            const bool counts = good_ == nullptr || good_[x * columns_ + y];
            const bool in_disk = square <= disk_square;
            const bool in_ring = square >= inner_square;
            const float value = counts ? frame[x * columns_ + y] : 0.0F;
            inside += in_disk ? value : 0.0F;
            around += in_ring ? value : 0.0F;
            area += static_cast<std::int64_t>(in_disk);
            good += static_cast<std::int64_t>(in_disk && counts);
            ring += static_cast<std::int64_t>(in_ring && counts);
        }
    }
    disk.background = ring > 0 ? around / static_cast<float>(ring) : 0.0F;
    // pixels that do not count are taken to hold what the others of the disk do
    const float share = good > 0 ? static_cast<float>(area) / static_cast<float>(good) : 0.0F;
    disk.intensity = share * (inside - disk.background * static_cast<float>(good));
}

}  // namespace microinfer::detection
