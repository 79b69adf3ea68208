/// One pattern against one candidate at a time: disks matched to reflections, and the orientation polished.
#pragma once

#include <microinfer/disks.hpp>
#include <microinfer/matrix3.hpp>
#include <microinfer/refinement.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace microinfer::refinement {

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
    double longest;     // 1/Angstrom
    double wavelength;  // of the electrons, Angstrom
};

/// The disks of one pattern.
struct Pattern {
    std::vector<Disk> disks;
    double amplitudes = 0.0;  // their sum

    void read(const PaddedDisks& from, std::int64_t pattern, const RefinementSpec& spec);
};

/// One pattern against one candidate at a time; keeps its buffers.
class Refiner {
  public:
    /// Polishes `start` and returns the orientation. What follows is about this pattern, which must stay.
    Matrix3<double> polish(const Matrix3<double>& start, const Pattern& pattern, const Crystal& crystal,
                           const RefinementSpec& spec);

    [[nodiscard]] double position_error() const { return position_error_; }

    /// Log-likelihood of the disks for the last orientation, given the error of their positions.
    [[nodiscard]] double log_likelihood(double position_error, double reach) const;

    /// Share of the disks' amplitude that lies on reflections.
    [[nodiscard]] double explained() const;

    /// Correlation of measured and predicted amplitudes: |F| under the envelope of the strongest disk.
    [[nodiscard]] double score() const;

  private:
    /// Finds the reflections that may come near each disk while the orientation moves little.
    void pair_up(const Matrix3<double>& inverse, const Crystal& crystal);

    /// Turns the reflections that are paired up.
    void place(const Matrix3<double>& inverse);

    /// Gives each disk the reflection within `radius` that explains it best.
    void match(double radius);

    /// Squared amplitude of everything that the last orientation predicts.
    void predict(const Matrix3<double>& inverse);

    /// The small rotation of the lab frame that improves the fit of the matched disks.
    [[nodiscard]] Vector3<double> improvement(const Vector3<double>& departure) const;

    void estimate_position_error();

    [[nodiscard]] double seen(double amplitude, double excitation_error) const;

    RefinementSpec spec_;
    const Pattern* pattern_ = nullptr;
    double wavelength_ = 0.0;
    double reach_ = 0.0;  // of excitation errors, 1/Angstrom
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

}  // namespace microinfer::refinement
