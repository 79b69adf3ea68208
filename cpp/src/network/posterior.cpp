/// The posterior model, fused. `microinfer.models.posterior` is its reference.
#include "../answers/decoder.hpp"
#include "encoder.hpp"
#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

namespace microinfer::networks {
namespace {

constexpr std::int64_t kHarmonics = 16;  // of radius and strength in the embedding
constexpr double kRadiusPeriod = 3.0;    // 1/Angstrom, of half a turn of the first harmonic
constexpr double kStrengthPeriod = 2.0;
/// Channel pair d of a head turns by d modulo this times the polar angle.
constexpr std::int64_t kRotaryHarmonics = 8;
constexpr auto kOrderCount = static_cast<std::int64_t>(kOrders.size());
/// Sums over a pattern's disks: turned by a cosine and by a sine of each order, and plain.
constexpr std::int64_t kSums = 2 * kOrderCount + 1;

/// cos(k angle) and sin(k angle) for k in [0, count).
void powers(double angle, std::int64_t count, double* cosine, double* sine) {
    const double c = std::cos(angle);
    const double s = std::sin(angle);
    cosine[0] = 1.0;
    sine[0] = 0.0;
    for (std::int64_t k = 1; k < count; ++k) {
        cosine[k] = cosine[k - 1] * c - sine[k - 1] * s;
        sine[k] = sine[k - 1] * c + cosine[k - 1] * s;
    }
}

/// The features of one block of patterns.
struct Features : DiskFeatures {
    explicit Features(DiskFeatures&& of) : DiskFeatures(std::move(of)) {}

    std::unique_ptr<float[]> weight;     // (disks, kSums): what each disk weighs in each sum
    std::unique_ptr<float[]> summed;     // (patterns, kSums, width + 1): behind each row a 1 for the bias
    std::unique_ptr<float[]> pooled;     // (patterns, 2 * width)
    std::unique_ptr<float[]> logits;     // of the cells
    std::unique_ptr<float[]> gate;       // of the waves' channels
    std::unique_ptr<float[]> of_cosine;  // (orders, patterns): waves of the sums that a cosine weighs
    std::unique_ptr<float[]> of_sine;
};

class Posterior : public Network {
  public:
    Posterior(const Layers& layers, const ModelInfo& model, const NetworkConfig& config, std::int64_t cells)
        : kernels_(layers.kernels),
          width_(config.width),
          channels_(config.channels),
          cells_(cells),
          encoder_(layers, config),
          embedding1_(layers.linear("embedding.0", width_, 4 * kHarmonics)),
          embedding2_(layers.linear("embedding.2", width_, width_)),
          norm_(layers.layer_norm("norm", width_)),
          cell_head1_(layers.linear("cell_head.0", 2 * width_, 2 * width_)),
          cell_head2_(layers.linear("cell_head.2", cells + 1, 2 * width_)),
          wave_gate_(layers.linear("wave_gate", kOrderCount * channels_, 2 * width_)),
          decoder_(layers.kernels, cells, layers.arrays.take<float>("cells", {cells, 3, 3}),
                   layers.arrays.take<std::int64_t>("cell_phase", {cells}), model.phases) {
        const float* const weight =
            layers.arrays.take<float>("disk_waves.weight", {kOrderCount * channels_ * 2, width_});
        const float* const bias = layers.arrays.take<float>("disk_waves.bias", {kOrderCount * channels_ * 2});
        cell_waves_.resize(size(kOrderCount * 2 * cells * channels_));
        for (std::int64_t n = 0; n < kOrderCount; ++n) {
            const std::int64_t first = n * 2 * channels_;
            disk_waves_.emplace_back(
                kernels_, layers.numbers, 2 * channels_, width_ + 1,
                [&](std::int64_t o, std::int64_t i) {  // the bias turns with its disk too
                    return i < width_ ? weight[(first + o) * width_ + i] : bias[first + o];
                },
                [](std::int64_t) { return 0.0F; });
            const float* const of_cells = layers.arrays.take<float>(
                "cell_waves." + std::to_string(n) + ".weight", {2 * cells, channels_});
            for (std::int64_t k = 0; k < cells; ++k) {
                for (std::int64_t half = 0; half < 2; ++half) {
                    std::copy_n(of_cells + (half * cells + k) * channels_, channels_,
                                cell_waves_.data() + ((k * kOrderCount + n) * 2 + half) * channels_);
                }
            }
        }
    }

    [[nodiscard]] std::int64_t candidates() const override { return kModes; }

    void find(const PaddedDisks& disks, const Candidates& to) const override {
        Features f(encoder_.features(disks.count, disks.patterns));
        embed(disks, f);
        encoder_(f);
        pool(f);
        read_out(f);
        decode(f, to);
    }

  private:
    void embed(const PaddedDisks& disks, Features& f) const;
    void pool(Features& f) const;
    void read_out(Features& f) const;
    void decode(const Features& f, const Candidates& to) const;

    const Kernels& kernels_;
    std::int64_t width_;
    std::int64_t channels_;
    std::int64_t cells_;
    Encoder encoder_;
    Linear embedding1_;
    Linear embedding2_;
    LayerNorm norm_;
    Linear cell_head1_;
    Linear cell_head2_;
    Linear wave_gate_;
    std::vector<Linear> disk_waves_;
    std::vector<float> cell_waves_;  // (cells, orders, 2, channels): real parts, then imaginary parts
    Decoder decoder_;
};

void Posterior::embed(const PaddedDisks& disks, Features& f) const {
    const std::int64_t pairs = encoder_.pairs();
    const auto waves = buffer(f.disks * 4 * kHarmonics);
    const auto hidden = buffer(f.disks * embedding1_.columns());
    f.weight = buffer(f.disks * kSums);
    double cosine[kHarmonics + 1];
    double sine[kHarmonics + 1];
    for (std::int64_t p = 0; p < f.patterns; ++p) {
        const std::int64_t length = f.length(p);
        const double share = length > 0 ? 1.0 / static_cast<double>(length) : 0.0;
        for (std::int64_t i = 0; i < length; ++i) {
            const std::int64_t at = p * disks.length + i;
            const std::int64_t row = f.first[size(p)] + i;
            float* const wave = waves.get() + row * 4 * kHarmonics;
            const double invariant[2] = {disks.radius[at] / kRadiusPeriod,
                                         std::sqrt(double{disks.intensity[at]}) / kStrengthPeriod};
            for (int which = 0; which < 2; ++which) {
                powers(std::numbers::pi * invariant[which], kHarmonics + 1, cosine, sine);
                for (std::int64_t k = 0; k < kHarmonics; ++k) {
                    wave[2 * which * kHarmonics + k] = static_cast<float>(sine[k + 1]);
                    wave[(2 * which + 1) * kHarmonics + k] = static_cast<float>(cosine[k + 1]);
                }
            }
            powers(disks.angle[at], kRotaryHarmonics, cosine, sine);
            for (std::int64_t d = 0; d < pairs; ++d) {
                f.cosine[size(row * pairs + d)] = static_cast<float>(cosine[d % kRotaryHarmonics]);
                f.sine[size(row * pairs + d)] = static_cast<float>(sine[d % kRotaryHarmonics]);
            }
            float* const weight = f.weight.get() + row * kSums;
            for (std::int64_t n = 0; n < kOrderCount; ++n) {
                const std::int64_t order = kOrders[size(n)];
                weight[n] = static_cast<float>(std::sqrt(share) * cosine[order]);
                weight[kOrderCount + n] = static_cast<float>(std::sqrt(share) * sine[order]);
            }
            weight[2 * kOrderCount] = 1.0F;
        }
    }
    embedding1_(waves.get(), 4 * kHarmonics, f.disks, hidden.get(), embedding1_.columns(), Epilogue::gelu);
    embedding2_(hidden.get(), embedding1_.columns(), f.disks, f.x.get(), f.stride);
}

/// Each pattern's sums, and its mean and largest features.
void Posterior::pool(Features& f) const {
    f.summed = buffer(f.patterns * kSums * f.normed_stride);
    f.pooled = buffer(f.patterns * 2 * width_);
    norm_(f.x.get(), f.stride, f.disks, f.normed.get(), f.normed_stride);
    for (std::int64_t row = 0; row < f.disks; ++row) {
        float* const rest = f.normed.get() + row * f.normed_stride + width_;
        std::fill(rest, rest + (f.normed_stride - width_), 0.0F);
        rest[0] = 1.0F;
    }
    for (std::int64_t p = 0; p < f.patterns; ++p) {
        const std::int64_t first = f.first[size(p)];
        const std::int64_t length = f.length(p);
        const float* const x = f.normed.get() + first * f.normed_stride;
        float* const summed = f.summed.get() + p * kSums * f.normed_stride;
        kernels_.sum_rows(x, f.normed_stride, length, f.normed_stride, f.weight.get() + first * kSums, kSums,
                          summed);
        float* const mean = f.pooled.get() + p * 2 * width_;
        float* const largest = mean + width_;
        const float* const sum = summed + (kSums - 1) * f.normed_stride;
        const auto disks = static_cast<float>(std::max<std::int64_t>(length, 1));
        std::transform(sum, sum + width_, mean, [disks](float all) { return all / disks; });
        std::fill(largest, largest + width_, length > 0 ? -std::numeric_limits<float>::infinity() : -1e4F);
        for (std::int64_t i = 0; i < length; ++i) {
            for (std::int64_t c = 0; c < width_; ++c) {
                const float value = x[i * f.normed_stride + c];
                largest[c] = value > largest[c] ? value : largest[c];
            }
        }
    }
}

void Posterior::read_out(Features& f) const {
    const std::int64_t two = 2 * width_;
    const auto hidden = buffer(f.patterns * cell_head1_.columns());
    f.logits = buffer(f.patterns * cell_head2_.columns());
    f.gate = buffer(f.patterns * wave_gate_.columns());
    cell_head1_(f.pooled.get(), two, f.patterns, hidden.get(), cell_head1_.columns(), Epilogue::gelu);
    cell_head2_(hidden.get(), cell_head1_.columns(), f.patterns, f.logits.get(), cell_head2_.columns());
    wave_gate_(f.pooled.get(), two, f.patterns, f.gate.get(), wave_gate_.columns());

    const std::int64_t columns = disk_waves_[0].columns();
    f.of_cosine = buffer(kOrderCount * f.patterns * columns);
    f.of_sine = buffer(kOrderCount * f.patterns * columns);
    for (std::int64_t n = 0; n < kOrderCount; ++n) {
        const Linear& map = disk_waves_[size(n)];
        const std::int64_t stride = kSums * f.normed_stride;
        map(f.summed.get() + n * f.normed_stride, stride, f.patterns,
            f.of_cosine.get() + n * f.patterns * columns, columns);
        map(f.summed.get() + (kOrderCount + n) * f.normed_stride, stride, f.patterns,
            f.of_sine.get() + n * f.patterns * columns, columns);
    }
}

void Posterior::decode(const Features& f, const Candidates& to) const {
    const std::int64_t columns = disk_waves_[0].columns();
    Decoder::Scratch scratch(decoder_);
    std::vector<float> x(size(kOrderCount * channels_));
    std::vector<float> y(x.size());
    for (std::int64_t p = 0; p < f.patterns; ++p) {
        const float no_crystal = decoder_.choose_cells(f.logits.get() + p * cell_head2_.columns(), scratch);
        for (std::int64_t n = 0; n < kOrderCount; ++n) {
            const float* const c = f.of_cosine.get() + (n * f.patterns + p) * columns;
            const float* const s = f.of_sine.get() + (n * f.patterns + p) * columns;
            const float* const g = f.gate.get() + p * wave_gate_.columns() + n * channels_;
            for (std::int64_t i = 0; i < channels_; ++i) {
                x[size(n * channels_ + i)] = (c[i] - s[channels_ + i]) * (1.0F + g[i]);
                y[size(n * channels_ + i)] = (s[i] + c[channels_ + i]) * (1.0F + g[i]);
            }
        }
        for (std::int64_t k = 0; k < scratch.cells; ++k) {  // the waves of no other cell are looked at
            float* const waves = scratch.waves.data() + kWaves * k;
            for (std::int64_t n = 0; n < kOrderCount; ++n) {
                const float* const a =
                    cell_waves_.data() + (scratch.cell[size(k)] * kOrderCount + n) * 2 * channels_;
                kernels_.complex_dot(x.data() + n * channels_, y.data() + n * channels_, a, a + channels_,
                                     channels_, waves + n, waves + kOrderCount + n);
            }
        }
        float* const probability = to.probability + kModes * p;
        const double sum =
            decoder_.find_modes(scratch, to.matrix + 9 * kModes * p, to.phase + kModes * p, probability);
        to.valid[p] = no_crystal < sum;
        // neighbouring peaks of a density may share grid points, which then count for both
        for (std::int64_t m = 0; m < kModes && sum > 1.0; ++m) {
            probability[m] = static_cast<float>(probability[m] / sum);
        }
    }
}

}  // namespace

std::unique_ptr<Network> make_posterior(const Kernels& kernels, Numbers numbers, const NamedArrays& named,
                                        const ModelInfo& model, const NetworkConfig& config) {
    Arrays arrays(named);
    arrays.require_size("norm.weight", 0, "model.width", config.width);
    arrays.require_size("cell_waves.0.weight", 1, "model.channels", config.channels);
    const std::int64_t cells = arrays.size("cells", 0);
    require(cells >= 1, "a posterior needs cells");
    const std::int64_t* const phase = arrays.take<std::int64_t>("cell_phase", {cells});
    const auto phases = static_cast<std::int64_t>(model.phases.size());
    require(std::all_of(phase, phase + cells, [=](std::int64_t p) { return p >= 0 && p < phases; }),
            "cell_phase must lie in [0, " + std::to_string(phases) + ")");
    auto network = std::make_unique<Posterior>(Layers{kernels, numbers, arrays}, model, config, cells);
    arrays.require_all_taken();
    return network;
}

}  // namespace microinfer::networks
