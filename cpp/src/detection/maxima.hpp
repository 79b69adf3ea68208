/// Maxima of a correlation, and the counts of a frame around them.
#pragma once

#include "transform.hpp"

#include <microinfer/detection.hpp>

#include <cstdint>
#include <vector>

namespace microinfer::detection {

/// Finds and measures the disks of one frame after another. Its memory is used again for the next frame.
class Maxima {
  public:
    /// `good` is null where every pixel counts.
    Maxima(std::int64_t rows, std::int64_t columns, const float* floor, const bool* good,
           const DiskSpec& spec);

    /// Adds the disks of a frame, strongest correlation first.
    void add(const float* frame, const float* correlation, std::vector<Disk>& disks);

  private:
    struct Candidate {
        float correlation;
        std::int64_t pixel;
    };

    void select(const float* correlation);
    [[nodiscard]] bool is_maximum(const float* correlation, std::int64_t x, std::int64_t y) const;
    void drop_close();
    [[nodiscard]] Disk place(const float* correlation, const Candidate& candidate) const;
    void measure(const float* frame, Disk& disk) const;

    const std::int64_t rows_;
    const std::int64_t columns_;
    const float* const floor_;
    const bool* const good_;
    const DiskSpec spec_;
    const Transforms& loops_;
    std::vector<Candidate> candidates_;
};

}  // namespace microinfer::detection
