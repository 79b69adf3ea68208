/// Bragg disks in the frames of a scan: correlation with a template, its maxima, and the counts within the
/// disks.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <memory>
#include <vector>

namespace microinfer {

/// How a maximum of the correlation is placed between pixels.
enum class Subpixel {
    none,           ///< not at all
    parabola,       ///< by a parabola through three pixels, in each direction
    interpolation,  ///< at the maximum of the polynomial through 7 x 7 pixels
};

/// What is a disk.
struct DiskSpec {
    float radius;            ///< within which its counts are summed, in pixels
    float background_inner;  ///< radii of the ring that gives the background below it, in pixels
    float background_outer;
    float min_snr;        ///< lowest correlation in standard deviations of a disk's counts, see `deviation`
    float gain;           ///< counts for one electron
    float kernel_square;  ///< sum of the squares of the kernel's pixels
    float noise_floor;    ///< variance of the correlation without any electron
    float min_relative;   ///< lowest correlation, relative to that of maximum `relative_to`
    std::int32_t
        relative_to;         ///< 0: the strongest, 1: the next ...; where there are fewer, nothing is dropped
    float min_spacing;       ///< of two disks in pixels: the weaker one of a closer pair is dropped
    std::int32_t max_disks;  ///< the strongest are kept
    float correlation_power;  ///< 1: correlation; 0: phase correlation; between: hybrid
    Subpixel subpixel;

    /// Standard deviation of a correlation that counts disk and background, with an electron more for those
    /// that are expected where none was counted.
    [[nodiscard]] float deviation(float correlation, float background) const {
        const float below = std::max(gain * background * kernel_square + noise_floor, 0.0F);
        return std::sqrt(gain * (gain + std::max(correlation, 0.0F)) + below);
    }
};

/// What belongs to every frame, row-major, of rows x columns pixels each.
struct FrameLayout {
    std::int64_t rows;
    std::int64_t columns;
    /// What a maximum of the correlation must exceed; infinite where there is to be none.
    const float* floor;
    /// Whether a pixel counts. Others take the mean of `fill_count` pixels that do.
    const bool* good;
    std::int64_t fill_count;
    const std::int64_t*
        fill;  ///< of each pixel that does not count, in their order; may be null where all do
};

/// A kernel in Fourier space, for frames padded to padded_rows x padded_columns, products of 2, 3 and 5 (see
/// `transform_length`): all complex frequencies, row-major, unscaled.
struct KernelView {
    std::int64_t padded_rows;
    std::int64_t padded_columns;
    const std::complex<float>* before;  ///< multiplies the frame's transform
    const float* after;                 ///< multiplies it after the power was taken; may be null for power 1
};

/// A disk found in a frame.
struct Disk {
    float x;            ///< along axis 0, in pixels
    float y;            ///< along axis 1, in pixels
    float correlation;  ///< at the maximum
    float intensity;    ///< counts within the disk's radius, less the background
    float background;   ///< counts a pixel in the ring around
};

/// Disks of some frames.
struct FoundDisks {
    std::vector<std::int64_t> offsets;  ///< of each frame's disks; one more than frames
    std::vector<Disk> disks;            ///< strongest correlation first
};

/// The smallest length from `length` on that frames can be padded to.
std::int64_t transform_length(std::int64_t length);

/// Finds disks. A maximum is a pixel above its floor, greater than the neighbours before it and at least as
/// great as those after it, in row-major order, diagonal ones included; neighbours outside the frame do not
/// count.
class DiskDetector {
  public:
    /// Copies what it is given. Throws std::invalid_argument for what makes no sense.
    DiskDetector(const FrameLayout& layout, const KernelView& kernel, const DiskSpec& spec);
    ~DiskDetector();
    DiskDetector(const DiskDetector&) = delete;
    DiskDetector& operator=(const DiskDetector&) = delete;

    [[nodiscard]] std::int64_t rows() const;
    [[nodiscard]] std::int64_t columns() const;

    /// The disks of frames of a number type, `scan_rows` times `positions` of them. A frame's disks do not
    /// depend on the frames of other scan rows. With `correlations`, which were computed elsewhere, the
    /// frames' own are not. Throws NotFinite.
    template <typename Count>
    [[nodiscard]] FoundDisks find(const Count* frames, std::int64_t scan_rows, std::int64_t positions,
                                  const float* correlations = nullptr) const;

    /// The correlations of such frames, each of rows x columns. Throws NotFinite.
    template <typename Count>
    void correlate(const Count* frames, std::int64_t scan_rows, std::int64_t positions,
                   float* correlations) const;

  private:
    class Implementation;
    std::unique_ptr<Implementation> implementation_;
};

/// A frame holds NaN or infinity.
struct NotFinite {
    std::int64_t frame;  ///< the first one
};

}  // namespace microinfer
