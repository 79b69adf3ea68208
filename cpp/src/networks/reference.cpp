#include "encoder.hpp"
#include "linear.hpp"

#include <microinfer/procrustes_math.hpp>
#include <microinfer/reference.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace microinfer {
namespace {

using networks::buffer;
using networks::DiskFeatures;
using networks::Encoder;
using networks::Epilogue;
using networks::Kernels;
using networks::kGeluTail;
using networks::LayerNorm;
using networks::Linear;
using networks::padded;
using networks::rounded;
using networks::size;
using networks::widened;

/// A table of embeddings; owns its rows.
class Table {
  public:
    Table(const float* rows, std::int64_t bins, std::int64_t width)
        : width_(width), rows_(rows, rows + bins * width) {}

    [[nodiscard]] const float* operator[](std::int32_t bin) const { return rows_.data() + bin * width_; }

  private:
    std::int64_t width_;
    std::vector<float> rows_;
};

/// As `Epilogue::gelu` of every element.
void gelu(float* x, std::int64_t elements, Numbers numbers) {
    const bool halves = numbers == Numbers::bfloat16;
    for (std::int64_t i = 0; i < elements; ++i) {
        const double z = halves ? widened(rounded(x[i])) : x[i];
        const bool vanishes = halves && z < kGeluTail;
        x[i] = vanishes ? 0.0F : static_cast<float>(0.5 * z * (1.0 + std::erf(z / std::numbers::sqrt2)));
    }
}

}  // namespace

class ReferenceNetwork::Implementation {
  public:
    Implementation(const Kernels& kernels, Numbers numbers, const ReferenceWeights& weights,
                   const ReferenceSpec& of)
        : spec(of),
          numbers_(numbers),
          radius_(weights.radius_table, spec.radius_bins, spec.width),
          angle_(weights.angle_table, spec.angle_bins, spec.width),
          intensity_(weights.intensity_table, spec.intensity_bins, spec.width),
          norm_in_(kernels.between(numbers), weights.norm_in, spec.width),
          encoder_(kernels, numbers, weights.blocks, weights.block_count, spec.width, spec.heads),
          norm_out_(kernels.between(numbers), weights.norm_out, spec.width),
          orientation_norm_(kernels.between(numbers), weights.orientation_norm,
                            weights.orientation_head[0].outputs) {
        for (const LinearWeights& layer : weights.orientation_head) {
            orientation_head_.emplace_back(kernels, numbers, layer);
        }
        for (const LinearWeights& layer : weights.phase_head) {
            phase_head_.emplace_back(kernels, numbers, layer);
        }
    }

    void run(const BinnedDisks& disks, std::int64_t begin, std::int64_t end, float* matrix,
             std::int64_t* phase, bool* determined) const {
        DiskFeatures f = encoder_.features(disks.count + begin, end - begin);
        embed(disks, begin, f);
        encoder_(f);
        const auto latent = pool(f);
        orient(latent.get(), f, matrix + 9 * begin, determined + begin);
        tell_phases(latent.get(), f, phase + begin);
    }

    const ReferenceSpec spec;

  private:
    void embed(const BinnedDisks& disks, std::int64_t begin, DiskFeatures& f) const {
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            for (std::int64_t i = 0; i < f.length(p); ++i) {
                const std::int64_t at = (begin + p) * disks.length + i;
                const float* const radius = radius_[disks.radius[at]];
                const float* const angle = angle_[disks.angle[at]];
                const float* const intensity = intensity_[disks.intensity[at]];
                float* const x = f.normed.get() + (f.first[size(p)] + i) * f.normed_stride;
                for (std::int64_t c = 0; c < spec.width; ++c) {
                    x[c] = radius[c] + intensity[c] + angle[c];
                }
            }
        }
        norm_in_(f.normed.get(), f.normed_stride, f.disks, f.x.get(), f.stride);
        for (std::int64_t i = 0; i < f.disks; ++i) {  // the blocks add to whole panels
            std::fill(f.x.get() + i * f.stride + spec.width, f.x.get() + (i + 1) * f.stride, 0.0F);
        }
        // its attention is not rotary
        std::fill_n(f.cosine.get(), f.disks * encoder_.pairs(), 1.0F);
        std::fill_n(f.sine.get(), f.disks * encoder_.pairs(), 0.0F);
    }

    /// The mean features of each pattern's disks, (patterns, width) at the stride of x.
    [[nodiscard]] std::unique_ptr<float[]> pool(DiskFeatures& f) const {
        norm_out_(f.x.get(), f.stride, f.disks, f.normed.get(), f.normed_stride);
        auto latent = buffer(f.patterns * f.stride);
        std::vector<double> sum(size(spec.width));
        for (std::int64_t p = 0; p < f.patterns; ++p) {
            std::fill(sum.begin(), sum.end(), 0.0);
            for (std::int64_t i = 0; i < f.length(p); ++i) {
                const float* const x = f.normed.get() + (f.first[size(p)] + i) * f.normed_stride;
                for (std::int64_t c = 0; c < spec.width; ++c) {
                    sum[size(c)] += x[c];
                }
            }
            const auto disks = static_cast<double>(std::max<std::int64_t>(f.length(p), 1));
            std::transform(sum.begin(), sum.end(), latent.get() + p * f.stride,
                           [disks](double all) { return static_cast<float>(all / disks); });
        }
        return latent;
    }

    void orient(const float* latent, const DiskFeatures& f, float* matrix, bool* determined) const {
        const Linear& first = orientation_head_[0];
        auto hidden = buffer(f.patterns * first.columns());
        first(latent, f.stride, f.patterns, hidden.get(), first.columns());
        orientation_norm_(hidden.get(), first.columns(), f.patterns, hidden.get(), first.columns());
        gelu(hidden.get(), f.patterns * first.columns(), numbers_);
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
            const Matrix3<float> free = load(hidden.get() + p * columns);
            const Matrix3<float> rotation = nearest_rotation(free);
            store(rotation, matrix + 9 * p);
            determined[p] = is_determined(free, rotation);
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
            phase[p] = std::max_element(row, row + spec.phases) - row;
        }
    }

    Numbers numbers_;
    Table radius_;
    Table angle_;
    Table intensity_;
    LayerNorm norm_in_;
    Encoder encoder_;
    LayerNorm norm_out_;
    std::vector<Linear> orientation_head_;
    LayerNorm orientation_norm_;
    std::vector<Linear> phase_head_;
};

ReferenceNetwork::ReferenceNetwork(const ReferenceWeights& weights, const ReferenceSpec& spec,
                                   Numbers numbers, const std::string& instructions)
    : implementation_(std::make_unique<const Implementation>(networks::kernels(instructions, numbers),
                                                             numbers, weights, spec)) {}

ReferenceNetwork::~ReferenceNetwork() = default;

const ReferenceSpec& ReferenceNetwork::spec() const {
    return implementation_->spec;
}

void ReferenceNetwork::answer(const BinnedDisks& disks, float* matrix, std::int64_t* phase,
                              bool* determined) const {
    parallel_for(disks.patterns, networks::kPatterns, [&](std::int64_t begin, std::int64_t end) {
        implementation_->run(disks, begin, end, matrix, phase, determined);
    });
}

}  // namespace microinfer
