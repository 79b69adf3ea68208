/// Maxima of a correlation, and the counts of a frame around them.
#pragma once

#include "transform.hpp"

#include <microinfer/detection.hpp>

#include <cstdint>
#include <vector>

namespace microinfer::detection {

/// The pixels of a disk around any place, to an eighth of a pixel, as spans of rows.
class Disc {
  public:
    explicit Disc(float radius);

    /// Sum and number of a frame's pixels within, those outside the frame left out.
    struct Sum {
        float counts;
        std::int64_t pixels;
    };
    [[nodiscard]] Sum sum(const float* frame, std::int64_t rows, std::int64_t columns, float x, float y,
                          const Transforms& loops) const;

  private:
    static constexpr std::int64_t kHalf = 4;  ///< steps of half a pixel
    static constexpr std::int64_t kPhases = 2 * kHalf + 1;

    struct Phase {
        std::vector<Span> spans;  ///< of the rows from -reach_ to reach_, relative to the disk's pixel
        std::int64_t pixels = 0;
    };

    std::int64_t reach_;
    std::vector<Phase> phases_;
};

/// Finds and measures the disks of one frame after another. Its memory is used again for the next frame.
class Maxima {
  public:
    Maxima(std::int64_t rows, std::int64_t columns, const float* floor, const DiskSpec& spec);

    /// Adds the disks of a frame, strongest correlation first. Behind the frame kPanel numbers can be read.
    void add(const float* frame, const float* correlation, std::vector<Disk>& disks);

  private:
    struct Candidate {
        float correlation;
        std::int64_t pixel;
    };

    void select(const float* correlation);
    [[nodiscard]] bool is_maximum(const float* correlation, std::int64_t x, std::int64_t y) const;
    [[nodiscard]] bool is_alone(std::int64_t x, std::int64_t y) const;
    [[nodiscard]] Disk place(const float* correlation, const Candidate& candidate) const;
    void measure(const float* frame, Disk& disk) const;
    [[nodiscard]] std::int64_t cell(std::int64_t x) const;

    const std::int64_t rows_;
    const std::int64_t columns_;
    const float* const floor_;
    const DiskSpec spec_;
    const Transforms& loops_;
    const Disc disc_;
    const Disc inner_;
    const Disc outer_;
    std::vector<Candidate> candidates_;
    const float cell_size_;  ///< so small that no two disks that are kept share a cell
    const std::int64_t cell_columns_;
    std::vector<std::int64_t> kept_;  ///< of every cell, the pixel of the disk that was kept there, or -1
};

}  // namespace microinfer::detection
