/// The paper's model, fused. `microinfer.models.reference` is its reference.
#include "encoder.hpp"
#include "network.hpp"

#include <microinfer/procrustes_math.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

namespace microinfer::networks {
namespace {

constexpr std::int64_t kAngleHarmonics = 15;
constexpr std::int32_t kMostBins = 1 << 16;
/// Bases of the sinusoids that embed bins (paper, eq. 1).
constexpr double kRadiusBase = 5000.0;
constexpr double kIntensityBase = 10000.0;

/// The paper's eq. 1 for every bin, (bins, width).
std::vector<float> sinusoids(std::int64_t bins, double base, std::int64_t width) {
    std::vector<float> table;
    for (std::int64_t bin = 0; bin < bins; ++bin) {
        for (std::int64_t i = 0; i < width; ++i) {
            const double phase = static_cast<double>(bin) /
                                 std::pow(base, 2.0 * static_cast<double>(i) / static_cast<double>(width));
            table.push_back(static_cast<float>(i % 2 == 0 ? std::sin(phase) : std::cos(phase)));
        }
    }
    return table;
}

/// Embeddings of the angular bins (paper, eq. 2), (bins, width).
std::vector<float> angles(const Layers& layers, std::int64_t bins, std::int64_t width) {
    constexpr std::int64_t inputs = 2 * kAngleHarmonics;
    const float* const weight = layers.arrays.take<float>("angle_embedding.weight", {width, inputs});
    const float* const bias = layers.arrays.take<float>("angle_embedding.bias", {width});
    std::vector<float> table;
    for (std::int64_t bin = 0; bin < bins; ++bin) {
        const double angle =
            ((static_cast<double>(bin) + 0.5) * 2.0 / static_cast<double>(bins) - 1.0) * std::numbers::pi;
        for (std::int64_t o = 0; o < width; ++o) {
            double sum = bias[o];
            for (std::int64_t k = 0; k < kAngleHarmonics; ++k) {
                const double turned = static_cast<double>(k + 1) * angle;
                sum += (weight[o * inputs + k] * std::cos(turned) +
                        weight[o * inputs + kAngleHarmonics + k] * std::sin(turned)) /
                       kAngleHarmonics;
            }
            table.push_back(static_cast<float>(sum));
        }
    }
    return table;
}

/// As `Epilogue::gelu` of every element.
void gelu(float* x, std::int64_t elements) {
    for (std::int64_t i = 0; i < elements; ++i) {
        x[i] *= 0.5F * (1.0F + std::erf(x[i] / std::numbers::sqrt2_v<float>));
    }
}

class Reference : public Network {
  public:
    Reference(const Layers& layers, const ModelInfo& model, const NetworkConfig& config)
        : width_(config.width),
          phases_(static_cast<std::int64_t>(model.phases.size())),
          norm_in_(layers.layer_norm("norm_in", width_)),
          encoder_(layers, config),
          norm_out_(layers.layer_norm("norm_out", width_)),
          orientation_head_{layers.linear("orientation_head.0", width_ / 2, width_),
                            layers.linear("orientation_head.3", width_ / 4, width_ / 2),
                            layers.linear("orientation_head.5", width_ / 8, width_ / 4),
                            layers.linear("orientation_head.7", 9, width_ / 8)},
          orientation_norm_(layers.layer_norm("orientation_head.1", width_ / 2)),
          phase_head_{layers.linear("phase_head.0", width_ / 2, width_),
                      layers.linear("phase_head.2", phases_, width_ / 2)},
          radius_(sinusoids(model.tokens.radius_bins, kRadiusBase, width_)),
          angle_(angles(layers, model.tokens.angle_bins, width_)),
          intensity_(sinusoids(model.tokens.intensity_bins, kIntensityBase, width_)) {}

    [[nodiscard]] std::int64_t candidates() const override { return 1; }

    void find(const PaddedDisks& disks, const Candidates& to) const override {
        DiskFeatures f = encoder_.features(disks.count, disks.patterns);
        embed(disks, f);
        encoder_(f);
        const auto latent = pool(f);
        orient(latent.get(), f, to.matrix);
        tell_phases(latent.get(), f, to.phase);
        std::fill_n(to.probability, f.patterns, 0.0F);   // it gives none
        for (std::int64_t p = 0; p < f.patterns; ++p) {  // where no sum has overflowed
            to.valid[p] = std::all_of(to.matrix + 9 * p, to.matrix + 9 * (p + 1),
                                      [](float x) { return std::isfinite(x); });
        }
    }

  private:
    void embed(const PaddedDisks& disks, DiskFeatures& f) const {
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            for (std::int64_t i = 0; i < f.length(p); ++i) {
                const std::int64_t at = p * disks.length + i;
                const float* const radius = radius_.data() + disks.radius_bin[at] * width_;
                const float* const angle = angle_.data() + disks.angle_bin[at] * width_;
                const float* const intensity = intensity_.data() + disks.intensity_bin[at] * width_;
                float* const x = f.normed.get() + (f.first[size(p)] + i) * f.normed_stride;
                for (std::int64_t c = 0; c < width_; ++c) {
                    x[c] = radius[c] + intensity[c] + angle[c];
                }
            }
        }
        norm_in_(f.normed.get(), f.normed_stride, f.disks, f.x.get(), f.stride);
        for (std::int64_t i = 0; i < f.disks; ++i) {  // the blocks add to whole panels
            std::fill(f.x.get() + i * f.stride + width_, f.x.get() + (i + 1) * f.stride, 0.0F);
        }
        // its attention is not rotary
        std::fill_n(f.cosine.get(), f.disks * encoder_.pairs(), 1.0F);
        std::fill_n(f.sine.get(), f.disks * encoder_.pairs(), 0.0F);
    }

    /// The mean features of each pattern's disks, (patterns, width) at the stride of x.
    [[nodiscard]] std::unique_ptr<float[]> pool(DiskFeatures& f) const {
        norm_out_(f.x.get(), f.stride, f.disks, f.normed.get(), f.normed_stride);
        auto latent = buffer(f.patterns * f.stride);
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            float* const mean = latent.get() + p * f.stride;
            std::fill_n(mean, width_, 0.0F);
            for (std::int64_t i = 0; i < f.length(p); ++i) {
                const float* const x = f.normed.get() + (f.first[size(p)] + i) * f.normed_stride;
                for (std::int64_t c = 0; c < width_; ++c) {
                    mean[c] += x[c];
                }
            }
            const auto disks = static_cast<float>(std::max<std::int64_t>(f.length(p), 1));
            std::for_each(mean, mean + width_, [disks](float& value) { value /= disks; });
        }
        return latent;
    }

    void orient(const float* latent, const DiskFeatures& f, float* matrix) const {
        const Linear& first = orientation_head_[0];
        auto hidden = buffer(f.patterns * first.columns());
        first(latent, f.stride, f.patterns, hidden.get(), first.columns());
        orientation_norm_(hidden.get(), first.columns(), f.patterns, hidden.get(), first.columns());
        gelu(hidden.get(), f.patterns * first.columns());
        std::int64_t columns = first.columns();
        for (std::size_t k = 1; k < orientation_head_.size(); ++k) {
            const Linear& layer = orientation_head_[k];
            auto next = buffer(f.patterns * layer.columns());
            const bool last = k + 1 == orientation_head_.size();
            layer(hidden.get(), columns, f.patterns, next.get(), layer.columns(),
                  last ? Epilogue::none : Epilogue::gelu);
            hidden = std::move(next);
            columns = layer.columns();
        }
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            store(nearest_rotation(load(hidden.get() + p * columns)), matrix + 9 * p);
        }
    }

    void tell_phases(const float* latent, const DiskFeatures& f, std::int64_t* phase) const {
        const std::int64_t columns[2] = {phase_head_[0].columns(), phase_head_[1].columns()};
        const auto hidden = buffer(f.patterns * columns[0]);
        const auto logits = buffer(f.patterns * columns[1]);
        phase_head_[0](latent, f.stride, f.patterns, hidden.get(), columns[0], Epilogue::gelu);
        phase_head_[1](hidden.get(), columns[0], f.patterns, logits.get(), columns[1]);
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            const float* const row = logits.get() + p * columns[1];
            phase[p] = std::max_element(row, row + phases_) - row;
        }
    }

    std::int64_t width_;
    std::int64_t phases_;
    LayerNorm norm_in_;
    Encoder encoder_;
    LayerNorm norm_out_;
    std::vector<Linear> orientation_head_;  // the first one is followed by `orientation_norm_`
    LayerNorm orientation_norm_;
    std::vector<Linear> phase_head_;
    std::vector<float> radius_;  // tables of embeddings, (bins, width); made when all arrays are known to fit
    std::vector<float> angle_;
    std::vector<float> intensity_;
};

}  // namespace

std::unique_ptr<Network> make_reference(const Kernels& kernels, Numbers numbers, const NamedArrays& named,
                                        const ModelInfo& model, const NetworkConfig& config) {
    Arrays arrays(named);
    const TokenSpec& tokens = model.tokens;
    const std::int32_t most = std::max({tokens.radius_bins, tokens.angle_bins, tokens.intensity_bins});
    require(most <= kMostBins, "a reference model has tables of its bins, so there must not be as many",
            most);
    arrays.require_size("norm_in.weight", 0, "model.width", config.width);
    auto network = std::make_unique<Reference>(Layers{kernels, numbers, arrays}, model, config);
    arrays.require_all_taken();
    return network;
}

}  // namespace microinfer::networks
