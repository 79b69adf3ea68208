/// From the most probable cells and their in-plane waves to the modes of a posterior.
#pragma once

#include "linear.hpp"

#include <microinfer/matrix3.hpp>
#include <microinfer/posterior.hpp>

#include <cstdint>
#include <vector>

namespace microinfer::networks {

struct Quaternion {
    double w, x, y, z;
};

/// A peak of the density in one cell.
struct Candidate {
    Quaternion rotation;
    double weight;
    std::int64_t phase;
    bool leaves = false;  // with the mode that is being found
};

/// Where a posterior concentrates.
struct Mode {
    Matrix3<double> centre;
    std::int64_t phase;
    double probability;
};

/// Decodes one pattern at a time.
class Decoder {
  public:
    Decoder(const Kernels& kernels, const PosteriorSpec& spec);

    /// Buffers of one thread.
    struct Scratch {
        explicit Scratch(const Decoder& decoder);
        std::int64_t cells = 0;          // that are looked at
        std::vector<std::int64_t> cell;  // (top_cells + 1,), the most probable first
        std::vector<float> probability;  // (top_cells,), of each what counts
        std::vector<float> waves;        // (top_cells, 2 * orders): real parts, then imaginary parts
        std::vector<float> turned;       // (2 * orders,): a cell's waves about a peak
        std::vector<float> density;      // (top_cells, columns): logarithms, on the grid of angles
        std::vector<float> angle;        // (top_cells,): each cell's highest peak
        std::vector<std::int64_t> peak;
        std::vector<Candidate> candidate;
        std::vector<float> parts;           // the candidates' quaternions, component by component
        std::vector<float> centre_parts;    // the same of a mode's centre under each operator
        std::vector<float> cosine;          // (candidates,) of half the distance to the centre
        std::vector<std::int32_t> nearest;  // operator that brings each candidate nearest to the centre
    };

    /// Chooses the most probable cells by their logits, the last of which is "no crystal", and returns the
    /// probability of that.
    float choose_cells(const float* logits, Scratch& scratch) const;

    /// Finds the modes, once the waves of the chosen cells stand in the scratch.
    void find_modes(Scratch& scratch, float* matrix, std::int64_t* phase, float* probability) const;

  private:
    template <typename Each>
    void for_orders(float angle, const Each& each) const;
    void find_candidates(Scratch& scratch) const;
    void find_mode(Scratch& scratch, Mode& mode) const;
    float mass(const float* waves, float angle, Scratch& scratch, float total) const;
    void lay_out(Scratch& scratch) const;
    void measure(Scratch& scratch, const Quaternion& centre, std::int64_t phase) const;
    template <typename Weigh>
    [[nodiscard]] Matrix3<double> mean(const Scratch& scratch, std::int64_t phase, const Weigh& weigh) const;
    float turn(float* waves, float angle) const;
    [[nodiscard]] float climb(const float* waves, float start) const;

    const Kernels& kernels_;
    std::int64_t cells_;
    std::int64_t top_cells_;
    std::int64_t angles_;
    std::int64_t peaks_;
    std::int64_t window_;
    std::int64_t modes_;
    std::int64_t group_;
    double cells_edge_;
    double negligible_;
    double mode_radius_;
    double leading_;
    double confidence_radius_;
    double confidence_edge_;
    float step_;  // of the grid of angles, radians
    std::vector<std::int64_t> orders_;
    std::vector<float> window_waves_;    // (2 * window + 1, 2 * orders): of the density, about a peak
    std::vector<Quaternion> frames_;     // of each cell
    std::vector<std::int64_t> phases_;   // of each cell
    std::vector<Quaternion> operators_;  // (phases, group)
    Linear density_;
};

}  // namespace microinfer::networks
