// One warp per pattern. A disk's place is the number of disks that come before it: patterns are short, so
// counting them beats a sort.
#include "launch.cuh"

#include <microinfer/token_math.hpp>

namespace microinfer::cuda {
namespace {

constexpr int kWarp = 32;
constexpr unsigned int kAllLanes = 0xFFFFFFFFU;

/// What the lanes of a warp know together of their pattern.
struct Pattern {
    std::int64_t begin;
    std::int64_t end;
    float strongest;     ///< of the peaks in range; 0 where there is none
    bool finite;         ///< every value, and the offsets lie within the peaks
    std::int32_t count;  ///< disks, before any limit
};

__device__ Peak read_peak(const RaggedPeaks& peaks, std::int64_t i) {
    return {peaks.qx[i], peaks.qy[i], peaks.intensity[i]};
}

__device__ bool is_disk(const Peak& peak, float strongest, const TokenSpec& spec) {
    return in_range(disk_radius(peak), peak.intensity, spec) && is_kept(peak.intensity, strongest, spec);
}

__device__ Pattern read_pattern(const RaggedPeaks& peaks, const TokenSpec& spec, std::int64_t index,
                                int lane) {
    Pattern pattern = {peaks.offsets[index], peaks.offsets[index + 1], 0.0F, true, 0};
    if (pattern.begin < 0 || pattern.end < pattern.begin || pattern.end > peaks.peaks) {
        pattern.finite = false;
        return pattern;
    }
    bool finite = true;
    float strongest = 0.0F;
    for (std::int64_t i = pattern.begin + lane; i < pattern.end; i += kWarp) {
        const Peak peak = read_peak(peaks, i);
        finite = finite && is_finite(peak);
        if (in_range(disk_radius(peak), peak.intensity, spec) && peak.intensity > strongest) {
            strongest = peak.intensity;
        }
    }
    for (int step = kWarp / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(kAllLanes, strongest, step);
        strongest = other > strongest ? other : strongest;
    }
    pattern.strongest = strongest;
    pattern.finite = __all_sync(kAllLanes, finite) != 0;
    if (!pattern.finite) {
        return pattern;
    }
    std::int32_t count = 0;
    for (std::int64_t i = pattern.begin + lane; i < pattern.end; i += kWarp) {
        count += is_disk(read_peak(peaks, i), strongest, spec) ? 1 : 0;
    }
    for (int step = kWarp / 2; step > 0; step /= 2) {
        count += __shfl_xor_sync(kAllLanes, count, step);
    }
    pattern.count = count;
    return pattern;
}

__global__ void count_kernel(RaggedPeaks peaks, TokenSpec spec, std::int32_t* count) {
    const std::int64_t index = thread_index() / kWarp;
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    if (index >= peaks.patterns) {
        return;
    }
    const Pattern pattern = read_pattern(peaks, spec, index, lane);
    if (lane == 0) {
        count[index] = pattern.count < spec.max_disks ? pattern.count : spec.max_disks;
    }
}

__global__ void tokenize_kernel(RaggedPeaks peaks, TokenSpec spec, TokenArrays tokens) {
    const std::int64_t index = thread_index() / kWarp;
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    if (index >= peaks.patterns) {
        return;
    }
    const Pattern pattern = read_pattern(peaks, spec, index, lane);
    std::int64_t kept = pattern.count < spec.max_disks ? pattern.count : spec.max_disks;
    kept = kept < tokens.length ? kept : tokens.length;
    const std::int64_t row = index * tokens.length;

    if (kept > 0) {
        for (std::int64_t i = pattern.begin + lane; i < pattern.end; i += kWarp) {
            const Peak disk = read_peak(peaks, i);
            if (!is_disk(disk, pattern.strongest, spec)) {
                continue;
            }
            std::int64_t place = 0;
            for (std::int64_t j = pattern.begin; j < pattern.end && place < kept; ++j) {
                const Peak other = read_peak(peaks, j);
                const bool before = comes_before(other, disk) || (j < i && !comes_before(disk, other));
                place += before && is_disk(other, pattern.strongest, spec) ? 1 : 0;
            }
            if (place >= kept) {
                continue;
            }
            const std::int64_t slot = row + place;
            const float radius = disk_radius(disk);
            const float angle = disk_angle(disk);
            const float intensity = disk.intensity / pattern.strongest;
            tokens.radius[slot] = radius;
            tokens.angle[slot] = angle;
            tokens.intensity[slot] = intensity;
            tokens.radius_bin[slot] = radius_bin(radius, spec);
            tokens.angle_bin[slot] = angle_bin(angle, spec);
            tokens.intensity_bin[slot] = intensity_bin(intensity, spec);
            tokens.mask[slot] = true;
        }
    }
    for (std::int64_t slot = row + kept + lane; slot < row + tokens.length; slot += kWarp) {
        tokens.radius[slot] = 0.0F;
        tokens.angle[slot] = 0.0F;
        tokens.intensity[slot] = 0.0F;
        tokens.radius_bin[slot] = 0;
        tokens.angle_bin[slot] = 0;
        tokens.intensity_bin[slot] = 0;
        tokens.mask[slot] = false;
    }
    if (lane == 0) {
        tokens.count[index] = static_cast<std::int32_t>(kept);
        tokens.valid[index] = pattern.finite && kept >= spec.min_disks;
    }
}

}  // namespace

void count_disks(const RaggedPeaks& peaks, const TokenSpec& spec, std::int32_t* count, const Stream& stream) {
    launch(count_kernel, kWarp * peaks.patterns, stream, peaks, spec, count);
}

void tokenize(const RaggedPeaks& peaks, const TokenSpec& spec, const TokenArrays& tokens,
              const Stream& stream) {
    launch(tokenize_kernel, kWarp * peaks.patterns, stream, peaks, spec, tokens);
}

}  // namespace microinfer::cuda
