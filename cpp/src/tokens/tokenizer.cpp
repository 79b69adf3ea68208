#include "../require.hpp"

#include <microinfer/thread_pool.hpp>
#include <microinfer/tokenizer.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace microinfer {
namespace {

/// Patterns per block: some tens of microseconds of work.
constexpr std::int64_t kBlock = 128;

/// The peaks of one pattern, and those of them that are disks. Its memory is used again for the next pattern.
class Pattern {
  public:
    Pattern(const RaggedPeaks& peaks, const TokenSpec& spec) : peaks_(peaks), spec_(spec) {}

    /// Selects the disks of pattern `index`, in the order of the input.
    void select(std::int64_t index) {
        const std::int64_t begin = peaks_.offsets[index];
        const auto size = static_cast<std::size_t>(peaks_.offsets[index + 1] - begin);
        qx_ = peaks_.qx + begin;
        qy_ = peaks_.qy + begin;
        intensity_ = peaks_.intensity + begin;
        strongest_ = 0.0F;
        count_ = 0;
        if (size > radius_.size()) {
            radius_.resize(size);
            order_.resize(size);
        }
        bool finite = true;
        for (std::size_t i = 0; i < size; ++i) {
            const Peak disk = peak(i);
            finite &= is_finite(disk);
            radius_[i] = disk_radius(disk);
            const float candidate = in_range(radius_[i], disk.intensity, spec_) ? disk.intensity : 0.0F;
            strongest_ = candidate > strongest_ ? candidate : strongest_;
        }
        finite_ = finite;
        if (!finite) {
            return;
        }
        for (std::size_t i = 0; i < size; ++i) {
            const float value = intensity_[i];
            order_[count_] = key(value, i);
            count_ += in_range(radius_[i], value, spec_) && is_kept(value, strongest_, spec_);
        }
    }

    /// Number of disks selected.
    [[nodiscard]] std::size_t count() const { return count_; }

    /// Orders the selected disks and writes the first ones to row `index`.
    void write(std::int64_t index, const TokenArrays& tokens) {
        sort();
        const auto length = static_cast<std::size_t>(tokens.length);
        const std::size_t kept = std::min({count_, length, static_cast<std::size_t>(spec_.max_disks)});
        const std::size_t row = static_cast<std::size_t>(index) * length;
        for (std::size_t k = 0; k < kept; ++k) {
            const std::size_t i = position(order_[k]);
            const std::size_t slot = row + k;
            const float radius = radius_[i];
            const float angle = disk_angle(peak(i));
            const float intensity = intensity_[i] / strongest_;
            tokens.radius[slot] = radius;
            tokens.angle[slot] = angle;
            tokens.intensity[slot] = intensity;
            tokens.radius_bin[slot] = radius_bin(radius, spec_);
            tokens.angle_bin[slot] = angle_bin(angle, spec_);
            tokens.intensity_bin[slot] = intensity_bin(intensity, spec_);
            tokens.mask[slot] = true;
        }
        const std::size_t padding = length - kept;
        std::fill_n(tokens.radius + row + kept, padding, 0.0F);
        std::fill_n(tokens.angle + row + kept, padding, 0.0F);
        std::fill_n(tokens.intensity + row + kept, padding, 0.0F);
        std::fill_n(tokens.radius_bin + row + kept, padding, 0);
        std::fill_n(tokens.angle_bin + row + kept, padding, 0);
        std::fill_n(tokens.intensity_bin + row + kept, padding, 0);
        std::fill_n(tokens.mask + row + kept, padding, false);
        tokens.count[index] = static_cast<std::int32_t>(kept);
        tokens.valid[index] = finite_ && tokens.count[index] >= spec_.min_disks;
    }

  private:
    [[nodiscard]] Peak peak(std::size_t i) const { return {qx_[i], qy_[i], intensity_[i]}; }

    // Positive floats order as their bits do: one integer comparison orders by falling intensity.
    static std::uint64_t key(float intensity, std::size_t i) {
        const auto descending = ~std::bit_cast<std::uint32_t>(intensity);
        return (static_cast<std::uint64_t>(descending) << 32U) | static_cast<std::uint32_t>(i);
    }
    static std::size_t position(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

    void sort() {
        const auto first = order_.begin();
        const auto last = first + static_cast<std::ptrdiff_t>(count_);
        std::sort(first, last);
        const auto tied = [](std::uint64_t a, std::uint64_t b) { return (a >> 32U) == (b >> 32U); };
        for (auto run = std::adjacent_find(first, last, tied); run != last;) {
            const auto end =
                std::find_if_not(run, last, [&](std::uint64_t other) { return tied(*run, other); });
            std::sort(run, end, [this](std::uint64_t a, std::uint64_t b) {
                return comes_before(peak(position(a)), peak(position(b)));
            });
            run = std::adjacent_find(end, last, tied);
        }
    }

    const RaggedPeaks& peaks_;
    const TokenSpec spec_;
    const float* qx_ = nullptr;
    const float* qy_ = nullptr;
    const float* intensity_ = nullptr;
    float strongest_ = 0.0F;
    bool finite_ = true;
    std::size_t count_ = 0;
    std::vector<float> radius_;
    std::vector<std::uint64_t> order_;  ///< of each disk: falling intensity, then its position in the pattern
};

}  // namespace

void require_sound(const TokenSpec& spec) {
    require(std::isfinite(spec.radius_max) && spec.radius_max > 0.0F,
            "radius_max must be positive and finite", spec.radius_max);
    require(spec.direct_beam_radius >= 0.0F && spec.direct_beam_radius < spec.radius_max,
            "direct_beam_radius must be at least 0 and below radius_max", spec.direct_beam_radius);
    require(spec.intensity_min >= 0.0F && spec.intensity_min < 1.0F,
            "intensity_min must be at least 0 and below 1", spec.intensity_min);
    require(spec.radius_bins >= 1, "radius_bins must be at least 1", spec.radius_bins);
    require(spec.angle_bins >= 1, "angle_bins must be at least 1", spec.angle_bins);
    require(spec.intensity_bins >= 1, "intensity_bins must be at least 1", spec.intensity_bins);
    require(spec.max_disks >= 1, "max_disks must be at least 1", spec.max_disks);
    require(spec.min_disks >= 1 && spec.min_disks <= spec.max_disks,
            "min_disks must be at least 1 and at most max_disks", spec.min_disks);
}

void require_sound(const RaggedPeaks& peaks) {
    require(peaks.patterns >= 0, "the number of patterns must not be negative", peaks.patterns);
    require(peaks.offsets[0] == 0, "offsets must begin with 0", peaks.offsets[0]);
    for (std::int64_t i = 0; i < peaks.patterns; ++i) {
        if (peaks.offsets[i + 1] < peaks.offsets[i]) {
            throw std::invalid_argument(
                "offsets must never fall, got " + std::to_string(peaks.offsets[i + 1]) + " after " +
                std::to_string(peaks.offsets[i]) + " at index " + std::to_string(i + 1));
        }
    }
    require(peaks.offsets[peaks.patterns] == peaks.peaks, "offsets must end with the number of peaks, " +
                                                              std::to_string(peaks.peaks) + ", got " +
                                                              std::to_string(peaks.offsets[peaks.patterns]));
}

void count_disks(const RaggedPeaks& peaks, const TokenSpec& spec, std::int32_t* count) {
    parallel_for(peaks.patterns, kBlock, [&](std::int64_t begin, std::int64_t end) {
        Pattern pattern(peaks, spec);
        for (std::int64_t i = begin; i < end; ++i) {
            pattern.select(i);
            count[i] = static_cast<std::int32_t>(
                std::min(pattern.count(), static_cast<std::size_t>(spec.max_disks)));
        }
    });
}

void tokenize(const RaggedPeaks& peaks, const TokenSpec& spec, const TokenArrays& tokens) {
    parallel_for(peaks.patterns, kBlock, [&](std::int64_t begin, std::int64_t end) {
        Pattern pattern(peaks, spec);
        for (std::int64_t i = begin; i < end; ++i) {
            pattern.select(i);
            pattern.write(i, tokens);
        }
    });
}

}  // namespace microinfer
