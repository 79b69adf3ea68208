/// From the most probable cells of a posterior and their in-plane waves to its most probable orientations.
///
/// `microinfer.models.decode` says the same for torch.
#pragma once

#include "../network/layers.hpp"

#include <microinfer/matrix3.hpp>
#include <microinfer/model.hpp>

#include <array>
#include <cstdint>
#include <vector>

namespace microinfer::networks {

/// Angular orders n of the in-plane waves, rising.
constexpr std::array<std::int64_t, 5> kOrders = {1, 2, 3, 4, 6};
constexpr std::int64_t kWaves = 2 * static_cast<std::int64_t>(kOrders.size());  // real, then imaginary parts
/// Modes that are found: the candidates of a pattern.
constexpr std::int64_t kModes = 6;

struct Quaternion {
    double w, x, y, z;
};

/// Decodes one pattern at a time.
class Decoder {
  public:
    /// `frames` (cells, 3, 3) is each cell's rotation at in-plane angle 0, `cell_phase` (cells,) its phase.
    Decoder(const Kernels& kernels, std::int64_t cells, const float* frames, const std::int64_t* cell_phase,
            const std::vector<Phase>& phases);

    /// A peak of the density in one cell.
    struct Peak {
        Quaternion rotation;
        double weight;
        std::int64_t phase;
    };

    /// Buffers of one thread.
    struct Scratch {
        explicit Scratch(const Decoder& decoder);
        std::int64_t cells = 0;          // that are looked at
        std::vector<std::int64_t> cell;  // (top cells,), the most probable first
        std::vector<float> probability;  // (top cells,)
        std::vector<float> waves;        // (top cells, kWaves)
        std::vector<float> density;      // (top cells, columns): logarithms, on the grid of angles
        std::vector<std::int64_t> highest;
        std::vector<Peak> peak;
        std::vector<float> parts;           // the peaks' quaternions, component by component
        std::vector<float> centre_parts;    // the same of a mode's first centre under each operator
        std::vector<float> cosine;          // (peaks,) of half the distance to that centre
        std::vector<std::int32_t> nearest;  // operator that brings each peak nearest to it
        std::vector<Quaternion> near;       // (peaks,) the equivalent that it brings there
    };

    /// Chooses the most probable cells by their logits, the last of which is "no crystal", and returns the
    /// probability of that.
    float choose_cells(const float* logits, Scratch& scratch) const;

    /// Finds the modes, once the waves of the chosen cells stand in the scratch. Probabilities fall; they are
    /// 0 where there are fewer modes. Returns their sum.
    double find_modes(Scratch& scratch, float* matrix, std::int64_t* phase, float* probability) const;

  private:
    struct Mode;

    void find_peaks(Scratch& scratch) const;
    void find_mode(Scratch& scratch, Mode& mode) const;
    void bring_near(Scratch& scratch, const Quaternion& centre, std::int64_t phase) const;
    [[nodiscard]] static Matrix3<double> mean(const Scratch& scratch, const Quaternion& centre,
                                              std::int64_t phase);

    const Kernels& kernels_;
    std::int64_t cells_;
    std::int64_t top_cells_;
    std::int64_t group_ = 0;             // operators of the phase that has most
    std::vector<Quaternion> frames_;     // of each cell
    std::vector<std::int64_t> phases_;   // of each cell
    std::vector<Quaternion> operators_;  // (phases, group), filled up with the identity
    Linear density_;
};

}  // namespace microinfer::networks
