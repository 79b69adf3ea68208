#include "decoder.hpp"
#include "encoder.hpp"
#include "kernels.hpp"
#include "linear.hpp"

#include <microinfer/posterior.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

namespace microinfer {
namespace {

using networks::Between;
using networks::buffer;
using networks::Decoder;
using networks::DiskFeatures;
using networks::Encoder;
using networks::Epilogue;
using networks::Kernels;
using networks::LayerNorm;
using networks::Linear;
using networks::size;

constexpr std::int64_t kHarmonics = 16;  // of radius and strength in the embedding
constexpr double kRadiusPeriod = 3.0;    // 1/Angstrom, of half a turn of the first harmonic
constexpr double kStrengthPeriod = 2.0;

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

}  // namespace

class PosteriorNetwork::Implementation {
  public:
    Implementation(const Kernels& kernels, Numbers numbers, const PosteriorWeights& weights,
                   const PosteriorSpec& spec)
        : kernels_(kernels),
          between_(kernels.between(numbers)),
          width_(spec.width),
          channels_(spec.channels),
          cells_(spec.cells),
          modes_(spec.modes),
          orders_(spec.orders, spec.orders + spec.order_count),
          encoder_(kernels, numbers, weights.blocks, weights.block_count, spec.width, spec.heads),
          harmonics_(spec.harmonics, spec.harmonics + encoder_.pairs()),
          embedding1_(kernels, numbers, weights.embedding[0]),
          embedding2_(kernels, numbers, weights.embedding[1]),
          norm_(between_, weights.norm, spec.width),
          cell_head1_(kernels, numbers, weights.cell_head[0]),
          cell_head2_(kernels, numbers, weights.cell_head[1]),
          wave_gate_(kernels, numbers, weights.wave_gate),
          decoder_(kernels, spec) {
        const LinearWeights& disk = weights.disk_waves;
        for (std::size_t n = 0; n < orders_.size(); ++n) {
            const std::int64_t first = static_cast<std::int64_t>(n) * 2 * channels_;
            disk_waves_.emplace_back(
                kernels, numbers, 2 * channels_, width_ + 1,
                [&](std::int64_t o, std::int64_t i) {  // the bias turns with its disk too
                    return i < width_ ? disk.weight[(first + o) * width_ + i] : disk.bias[first + o];
                },
                [](std::int64_t) { return 0.0F; });
        }
        cell_waves_.resize(orders_.size() * size(2 * cells_ * channels_));
        for (std::int64_t k = 0; k < cells_; ++k) {
            for (std::size_t n = 0; n < orders_.size(); ++n) {
                for (std::int64_t half = 0; half < 2; ++half) {
                    std::copy_n(weights.cell_waves[n].weight + (half * cells_ + k) * channels_, channels_,
                                cell_weights(k, n) + half * channels_);
                }
            }
        }
        highest_power_ = 1 + std::max(*std::max_element(orders_.begin(), orders_.end()),
                                      *std::max_element(harmonics_.begin(), harmonics_.end()));
    }

    [[nodiscard]] std::int64_t modes() const { return modes_; }

    PosteriorSeconds run(const PaddedDisks& disks, std::int64_t begin, std::int64_t end,
                         const PosteriorModes& to) const;

  private:
    struct Features;

    float* cell_weights(std::int64_t cell, std::size_t order) {
        return cell_waves_.data() + (size(cell) * orders_.size() + order) * size(2 * channels_);
    }
    [[nodiscard]] const float* cell_weights(std::int64_t cell, std::size_t order) const {
        return cell_waves_.data() + (size(cell) * orders_.size() + order) * size(2 * channels_);
    }
    void embed(const PaddedDisks& disks, Features& f) const;
    void pool(Features& f) const;
    void read_out(Features& f) const;
    void decode(const Features& f, const PosteriorModes& to) const;

    const Kernels& kernels_;
    const Between& between_;
    std::int64_t width_;
    std::int64_t channels_;
    std::int64_t cells_;
    std::int64_t modes_;
    std::int64_t highest_power_ = 0;
    std::vector<std::int64_t> orders_;
    Encoder encoder_;
    std::vector<std::int64_t> harmonics_;
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

/// The features of one block of patterns.
struct PosteriorNetwork::Implementation::Features : DiskFeatures {
    explicit Features(DiskFeatures&& of) : DiskFeatures(std::move(of)) {}

    std::int64_t begin;               // the first pattern
    std::int64_t sums;                // of a pattern's disks
    std::unique_ptr<float[]> weight;  // (disks, sums): what each disk weighs in each sum
    std::unique_ptr<float[]>
        summed;  // (patterns, sums, width + 1): behind each row a 1 that stands for the bias
    std::unique_ptr<float[]> pooled;     // (patterns, 2 * width)
    std::unique_ptr<float[]> logits;     // of the cells
    std::unique_ptr<float[]> gate;       // of the waves' channels
    std::unique_ptr<float[]> of_cosine;  // (orders, patterns): waves of the sums that a cosine weighs
    std::unique_ptr<float[]> of_sine;
};

void PosteriorNetwork::Implementation::embed(const PaddedDisks& disks, Features& f) const {
    const std::int64_t pairs = encoder_.pairs();
    const auto orders = static_cast<std::int64_t>(orders_.size());
    const auto waves = buffer(f.disks * 4 * kHarmonics);
    const auto hidden = buffer(f.disks * embedding1_.columns());
    std::vector<double> cosine(size(std::max(highest_power_, kHarmonics + 1)));
    std::vector<double> sine(cosine.size());
    for (std::int64_t p = 0; p < f.patterns; ++p) {
        const std::int64_t length = f.length(p);
        const double share = length > 0 ? 1.0 / static_cast<double>(length) : 0.0;
        for (std::int64_t i = 0; i < length; ++i) {
            const std::int64_t at = (f.begin + p) * disks.length + i;
            const std::int64_t row = f.first[size(p)] + i;
            float* const wave = waves.get() + row * 4 * kHarmonics;
            const double invariant[2] = {disks.radius[at] / kRadiusPeriod,
                                         std::sqrt(double{disks.intensity[at]}) / kStrengthPeriod};
            for (int which = 0; which < 2; ++which) {
                powers(std::numbers::pi * invariant[which], kHarmonics + 1, cosine.data(), sine.data());
                for (std::int64_t k = 0; k < kHarmonics; ++k) {
                    wave[2 * which * kHarmonics + k] = static_cast<float>(sine[size(k + 1)]);
                    wave[(2 * which + 1) * kHarmonics + k] = static_cast<float>(cosine[size(k + 1)]);
                }
            }
            powers(disks.angle[at], highest_power_, cosine.data(), sine.data());
            for (std::int64_t d = 0; d < pairs; ++d) {
                f.cosine[size(row * pairs + d)] = static_cast<float>(cosine[size(harmonics_[size(d)])]);
                f.sine[size(row * pairs + d)] = static_cast<float>(sine[size(harmonics_[size(d)])]);
            }
            float* const weight = f.weight.get() + row * f.sums;
            for (std::int64_t n = 0; n < orders; ++n) {
                const std::size_t order = size(orders_[size(n)]);
                weight[n] = static_cast<float>(std::sqrt(share) * cosine[order]);
                weight[orders + n] = static_cast<float>(std::sqrt(share) * sine[order]);
            }
            weight[2 * orders] = 1.0F;
        }
    }
    embedding1_(waves.get(), 4 * kHarmonics, f.disks, hidden.get(), embedding1_.columns(), Epilogue::gelu);
    embedding2_(hidden.get(), embedding1_.columns(), f.disks, f.x.get(), f.stride);
}

/// Each pattern's sums, and its mean and largest features.
void PosteriorNetwork::Implementation::pool(Features& f) const {
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
        float* const summed = f.summed.get() + p * f.sums * f.normed_stride;
        between_.sum_rows(x, f.normed_stride, length, f.normed_stride, f.weight.get() + first * f.sums,
                          f.sums, summed);
        float* const mean = f.pooled.get() + p * 2 * width_;
        float* const largest = mean + width_;
        const float* const sum = summed + (f.sums - 1) * f.normed_stride;
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

void PosteriorNetwork::Implementation::read_out(Features& f) const {
    const std::int64_t two = 2 * width_;
    const auto hidden = buffer(f.patterns * cell_head1_.columns());
    f.logits = buffer(f.patterns * cell_head2_.columns());
    f.gate = buffer(f.patterns * wave_gate_.columns());
    cell_head1_(f.pooled.get(), two, f.patterns, hidden.get(), cell_head1_.columns(), Epilogue::gelu);
    cell_head2_(hidden.get(), cell_head1_.columns(), f.patterns, f.logits.get(), cell_head2_.columns());
    wave_gate_(f.pooled.get(), two, f.patterns, f.gate.get(), wave_gate_.columns());

    const auto orders = static_cast<std::int64_t>(orders_.size());
    const std::int64_t columns = disk_waves_[0].columns();
    f.of_cosine = buffer(orders * f.patterns * columns);
    f.of_sine = buffer(orders * f.patterns * columns);
    for (std::int64_t n = 0; n < orders; ++n) {
        const Linear& map = disk_waves_[size(n)];
        const std::int64_t stride = f.sums * f.normed_stride;
        map(f.summed.get() + n * f.normed_stride, stride, f.patterns,
            f.of_cosine.get() + n * f.patterns * columns, columns);
        map(f.summed.get() + (orders + n) * f.normed_stride, stride, f.patterns,
            f.of_sine.get() + n * f.patterns * columns, columns);
    }
}

void PosteriorNetwork::Implementation::decode(const Features& f, const PosteriorModes& to) const {
    const auto orders = static_cast<std::int64_t>(orders_.size());
    const std::int64_t columns = disk_waves_[0].columns();
    Decoder::Scratch scratch(decoder_);
    std::vector<float> x(size(orders * channels_));
    std::vector<float> y(x.size());
    for (std::int64_t p = 0; p < f.patterns; ++p) {
        const std::int64_t at = f.begin + p;
        to.no_crystal[at] = decoder_.choose_cells(f.logits.get() + p * cell_head2_.columns(), scratch);
        for (std::int64_t n = 0; n < orders; ++n) {
            const float* const c = f.of_cosine.get() + (n * f.patterns + p) * columns;
            const float* const s = f.of_sine.get() + (n * f.patterns + p) * columns;
            const float* const g = f.gate.get() + p * wave_gate_.columns() + n * channels_;
            for (std::int64_t i = 0; i < channels_; ++i) {
                x[size(n * channels_ + i)] = (c[i] - s[channels_ + i]) * (1.0F + g[i]);
                y[size(n * channels_ + i)] = (s[i] + c[channels_ + i]) * (1.0F + g[i]);
            }
        }
        for (std::int64_t k = 0; k < scratch.cells; ++k) {
            float* const waves = scratch.waves.data() + 2 * orders * k;
            for (std::int64_t n = 0; n < orders; ++n) {
                const float* const a = cell_weights(scratch.cell[size(k)], size(n));
                kernels_.complex_dot(x.data() + n * channels_, y.data() + n * channels_, a, a + channels_,
                                     channels_, waves + n, waves + orders + n);
            }
        }
        decoder_.find_modes(scratch, to.matrix + 9 * modes_ * at, to.phase + modes_ * at,
                            to.probability + modes_ * at);
    }
}

PosteriorSeconds PosteriorNetwork::Implementation::run(const PaddedDisks& disks, std::int64_t begin,
                                                       std::int64_t end, const PosteriorModes& to) const {
    const auto began = std::chrono::steady_clock::now();
    Features f(encoder_.features(disks.count + begin, end - begin));
    f.begin = begin;
    f.sums = 2 * static_cast<std::int64_t>(orders_.size()) + 1;
    f.weight = buffer(f.disks * f.sums);
    f.summed = buffer(f.patterns * f.sums * f.normed_stride);
    f.pooled = buffer(f.patterns * 2 * width_);
    embed(disks, f);
    encoder_(f);
    pool(f);
    read_out(f);
    const auto between = std::chrono::steady_clock::now();
    decode(f, to);
    using Seconds = std::chrono::duration<double>;
    return {Seconds(between - began).count(), Seconds(std::chrono::steady_clock::now() - between).count()};
}

PosteriorNetwork::PosteriorNetwork(const PosteriorWeights& weights, const PosteriorSpec& spec,
                                   Numbers numbers, const std::string& instructions)
    : implementation_(std::make_unique<const Implementation>(networks::kernels(instructions, numbers),
                                                             numbers, weights, spec)) {}

PosteriorNetwork::~PosteriorNetwork() = default;

std::int64_t PosteriorNetwork::modes() const {
    return implementation_->modes();
}

PosteriorSeconds PosteriorNetwork::find_modes(const PaddedDisks& disks, const PosteriorModes& modes) const {
    PosteriorSeconds total{0.0, 0.0};
    std::mutex mutex;
    parallel_for(disks.patterns, networks::kPatterns, [&](std::int64_t begin, std::int64_t end) {
        const PosteriorSeconds part = implementation_->run(disks, begin, end, modes);
        const std::lock_guard lock(mutex);
        total.network += part.network;
        total.decoding += part.decoding;
    });
    return total;
}

}  // namespace microinfer
