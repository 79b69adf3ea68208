/// What one Bragg peak becomes as a token: the rule, written once for CPU and CUDA.
///
/// Radius and angle are computed in float64 from the float32 coordinates, where the products are exact, and
/// rounded once; the bins follow from the float32 features. So both devices agree, and whoever holds the
/// features can derive the bins.
#pragma once

#include <microinfer/host_device.hpp>

#include <cmath>
#include <cstdint>

namespace microinfer {

/// Ranges, bins and limits of tokenization.
struct TokenSpec {
    /// Largest radius of a disk that is kept, 1/Angstrom; the upper edge of the last radial bin.
    float radius_max;
    /// Radial bins on [0, radius_max].
    std::int32_t radius_bins;
    /// Polar-angle bins on the circle; the first begins at -pi.
    std::int32_t angle_bins;
    /// Smallest relative intensity that is kept, in units of the pattern's strongest kept disk.
    float intensity_min;
    /// Intensity bins on [intensity_min, 1].
    std::int32_t intensity_bins;
    /// Peaks nearer than this to the centre are the direct beam, 1/Angstrom.
    float direct_beam_radius;
    /// Disks kept per pattern, the strongest first.
    std::int32_t max_disks;
    /// A pattern with fewer kept disks is not valid.
    std::int32_t min_disks;
};

/// One Bragg peak, measured from the direct beam on a calibrated detector. Swapped or mirrored axes go
/// unnoticed: they give other orientations with much the same confidence.
struct Peak {
    /// Along detector axis 0, down the image, 1/Angstrom.
    float qx;
    /// Along detector axis 1, to the right, 1/Angstrom.
    float qy;
    /// In any unit; only ratios within a pattern count.
    float intensity;
};

MICROINFER_HD bool is_finite(const Peak& peak) {
    return std::isfinite(peak.qx) && std::isfinite(peak.qy) && std::isfinite(peak.intensity);
}

/// Distance from the centre, 1/Angstrom.
MICROINFER_HD float disk_radius(const Peak& peak) {
    const double x = peak.qx;
    const double y = peak.qy;
    return static_cast<float>(std::sqrt(x * x + y * y));
}

/// Whether a peak counts towards the pattern's strongest disk: outside the direct beam, in range, and bright.
MICROINFER_HD bool in_range(float radius, float intensity, const TokenSpec& spec) {
    return radius >= spec.direct_beam_radius && radius <= spec.radius_max && intensity > 0.0F;
}

/// Whether a peak in range is kept, `strongest` being the largest intensity in range.
MICROINFER_HD bool is_kept(float intensity, float strongest, const TokenSpec& spec) {
    return intensity / strongest >= spec.intensity_min;
}

/// The order of a pattern's disks: by falling intensity, ties by rising qx, then qy.
MICROINFER_HD bool comes_before(const Peak& a, const Peak& b) {
    if (a.intensity != b.intensity) {
        return a.intensity > b.intensity;
    }
    return a.qx != b.qx ? a.qx < b.qx : a.qy < b.qy;
}

/// Polar angle atan2(qy, qx) in (-pi, pi], radians. Negative zeros count as zeros.
MICROINFER_HD float disk_angle(const Peak& peak) {
    constexpr float pi = 3.14159265F;
    const double x = peak.qx + 0.0F;
    const double y = peak.qy + 0.0F;
    const float angle = static_cast<float>(std::atan2(y, x));
    return angle <= -pi ? pi : angle;
}

/// floor(radius / radius_max * radius_bins); radius_max itself falls in the last bin.
MICROINFER_HD std::int32_t radius_bin(float radius, const TokenSpec& spec) {
    const double position = static_cast<double>(radius) / spec.radius_max * spec.radius_bins;
    const auto bin = static_cast<std::int32_t>(position);
    return bin < spec.radius_bins ? bin : spec.radius_bins - 1;
}

/// floor((angle + pi) / (2 pi) * angle_bins), periodic: an angle of pi falls in the first bin.
MICROINFER_HD std::int32_t angle_bin(float angle, const TokenSpec& spec) {
    constexpr double pi = 3.14159265358979323846;
    const double position = (static_cast<double>(angle) + pi) / (2.0 * pi) * spec.angle_bins;
    const auto bin = static_cast<std::int32_t>(position);
    return bin < spec.angle_bins ? bin : bin - spec.angle_bins;
}

/// floor((intensity - intensity_min) / (1 - intensity_min) * intensity_bins) of a relative intensity; 1 falls
/// in the last bin.
MICROINFER_HD std::int32_t intensity_bin(float intensity, const TokenSpec& spec) {
    const double low = spec.intensity_min;
    const double position = (static_cast<double>(intensity) - low) / (1.0 - low) * spec.intensity_bins;
    const auto bin = static_cast<std::int32_t>(position);
    return bin < spec.intensity_bins ? bin : spec.intensity_bins - 1;
}

}  // namespace microinfer
