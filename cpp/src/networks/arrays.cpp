#include "../require.hpp"

#include <microinfer/network_arrays.hpp>

#include <cmath>
#include <cstddef>
#include <set>
#include <type_traits>
#include <utility>

namespace microinfer {
namespace {

using Shape = std::vector<std::int64_t>;

/// Features of a disk that the embedding reads.
constexpr std::int64_t kFeatures = 64;
/// Highest harmonic and angular order, and number of modes: more than any pattern's disks tell apart.
constexpr std::int64_t kHighest = 1024;

/// "(3, 4)", as Python writes it.
std::string text(const Shape& shape) {
    std::string result = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        result += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    }
    return result + (shape.size() == 1 ? ",)" : ")");
}

template <typename T>
constexpr const char* kTypeName = std::is_same_v<T, float> ? "float32" : "int64";

/// Takes arrays by their names and remembers which.
class Arrays {
  public:
    explicit Arrays(const NamedArrays& arrays) : arrays_(arrays) {}

    template <typename T>
    const T* take(const std::string& name, const Shape& shape) {
        const ArrayView& array = find(name);
        require(array.shape == shape, name + " does not fit the other arrays, got shape " +
                                          text(array.shape) + ", expected " + text(shape));
        const T* const* const elements = std::get_if<const T*>(&array.elements);
        require(elements != nullptr, name + " must hold " + kTypeName<T>);
        taken_.insert(name);
        return *elements;
    }

    [[nodiscard]] std::int64_t size(const std::string& name, std::size_t axis) const {
        const ArrayView& array = find(name);
        require(array.shape.size() > axis, name + " has too few axes, got shape " + text(array.shape));
        return array.shape[axis];
    }

    [[nodiscard]] bool has(const std::string& name) const { return arrays_.count(name) > 0; }

    LinearWeights linear(const std::string& name, std::int64_t outputs, std::int64_t inputs) {
        LinearWeights weights = linear_without_bias(name, outputs, inputs);
        weights.bias = take<float>(name + ".bias", {outputs});
        return weights;
    }

    LinearWeights linear_without_bias(const std::string& name, std::int64_t outputs, std::int64_t inputs) {
        return {take<float>(name + ".weight", {outputs, inputs}), nullptr, outputs, inputs};
    }

    LayerNormWeights layer_norm(const std::string& name, std::int64_t width) {
        return {take<float>(name + ".weight", {width}), take<float>(name + ".bias", {width})};
    }

    void require_all_taken() const {
        for (const auto& [name, array] : arrays_) {
            require(taken_.count(name) > 0,
                    "the model has an array " + name + " that the core does not know");
        }
    }

  private:
    [[nodiscard]] const ArrayView& find(const std::string& name) const {
        const auto found = arrays_.find(name);
        require(found != arrays_.end(), "the model has no array " + name);
        return found->second;
    }

    const NamedArrays& arrays_;
    std::set<std::string> taken_;
};

void require_heads(std::int64_t width, std::int64_t heads) {
    require(heads >= 1 && heads <= width && width % (2 * heads) == 0,
            "the width " + std::to_string(width) + " must be a multiple of twice the heads, got " +
                std::to_string(heads));
}

std::vector<BlockWeights> blocks_of(Arrays& arrays, std::int64_t width) {
    std::vector<BlockWeights> blocks;
    while (arrays.has("blocks." + std::to_string(blocks.size()) + ".norm1.weight")) {
        const std::string name = "blocks." + std::to_string(blocks.size());
        blocks.push_back({arrays.layer_norm(name + ".norm1", width),
                          arrays.linear(name + ".attention.qkv", 3 * width, width),
                          arrays.linear(name + ".attention.out", width, width),
                          arrays.layer_norm(name + ".norm2", width),
                          arrays.linear(name + ".feed_forward.0", 2 * width, width),
                          arrays.linear(name + ".feed_forward.2", width, 2 * width)});
    }
    return blocks;
}

void require_sound(const PosteriorSettings& settings) {
    const auto positive = [](double value) { return value > 0.0 && std::isfinite(value); };
    require(!settings.orders.empty(), "orders must not be empty");
    for (std::size_t n = 0; n < settings.orders.size(); ++n) {
        const std::int64_t order = settings.orders[n];
        require(order >= 1 && order <= kHighest && (n == 0 || order > settings.orders[n - 1]),
                "orders must rise from 1 or more and end at 1024 or less, got " + std::to_string(order) +
                    " at " + std::to_string(n));
    }
    require(settings.top_cells >= 1, "top_cells must be at least 1", settings.top_cells);
    require(positive(settings.cells_edge), "cells_edge must be positive and finite", settings.cells_edge);
    require(settings.negligible >= 0.0 && settings.negligible < 1.0,
            "negligible must be at least 0 and below 1", settings.negligible);
    require(settings.angles >= 3 && settings.angles <= 100 * kHighest, "angles must lie in [3, 102400]",
            settings.angles);
    require(settings.peaks >= 1, "peaks must be at least 1", settings.peaks);
    require(settings.window >= 0 && settings.window < (settings.angles + 1) / 2,
            "window must be at least 0 and below half of angles", settings.window);
    require(settings.modes >= 1 && settings.modes <= kHighest, "modes must lie in [1, 1024]", settings.modes);
    require(positive(settings.mode_radius), "mode_radius must be positive and finite", settings.mode_radius);
    require(settings.leading >= 0.0 && settings.leading < 1.0, "leading must be at least 0 and below 1",
            settings.leading);
    require(positive(settings.confidence_radius), "confidence_radius must be positive and finite",
            settings.confidence_radius);
    require(positive(settings.confidence_edge), "confidence_edge must be positive and finite",
            settings.confidence_edge);
}

void require_sound(const PosteriorSpec& spec) {
    const std::int64_t pairs = spec.width / spec.heads / 2;
    for (std::int64_t d = 0; d < pairs; ++d) {
        require(spec.harmonics[d] >= 0 && spec.harmonics[d] <= kHighest, "harmonics must lie in [0, 1024]",
                spec.harmonics[d]);
    }
    for (std::int64_t k = 0; k < spec.cells; ++k) {
        require(spec.cell_phase[k] >= 0 && spec.cell_phase[k] < spec.phases,
                "cell_phase must lie in [0, " + std::to_string(spec.phases) + "), got " +
                    std::to_string(spec.cell_phase[k]));
    }
}

}  // namespace

std::unique_ptr<PosteriorNetwork> make_posterior_network(const NamedArrays& named,
                                                         const PosteriorSettings& settings, Numbers numbers,
                                                         const std::string& instructions) {
    Arrays arrays(named);
    const std::int64_t width = arrays.size("norm.weight", 0);
    const std::int64_t heads = settings.heads;
    require_heads(width, heads);
    require_sound(settings);
    const std::int64_t cells = arrays.size("cells", 0);
    require(cells >= 1, "a posterior needs cells");
    const std::int64_t channels = arrays.size("cell_waves.0.weight", 1);
    const std::int64_t phases = arrays.size("operators", 0);
    const std::int64_t group = arrays.size("operators", 1);
    require(channels >= 1 && phases >= 1 && group >= 1,
            "a posterior needs channels of its waves, phases and their operators");
    const auto orders = static_cast<std::int64_t>(settings.orders.size());

    const std::vector<BlockWeights> blocks = blocks_of(arrays, width);
    std::vector<LinearWeights> cell_waves;
    for (std::int64_t n = 0; n < orders; ++n) {
        cell_waves.push_back(
            arrays.linear_without_bias("cell_waves." + std::to_string(n), 2 * cells, channels));
    }
    const PosteriorWeights weights = {
        {arrays.linear("embedding.0", width, kFeatures), arrays.linear("embedding.2", width, width)},
        blocks.data(),
        static_cast<std::int64_t>(blocks.size()),
        arrays.layer_norm("norm", width),
        {arrays.linear("cell_head.0", 2 * width, 2 * width),
         arrays.linear("cell_head.2", cells + 1, 2 * width)},
        arrays.linear("disk_waves", orders * channels * 2, width),
        arrays.linear("wave_gate", orders * channels, 2 * width),
        cell_waves.data()};
    const PosteriorSpec spec = {width,
                                heads,
                                channels,
                                cells,
                                arrays.take<std::int64_t>("harmonics", {width / heads / 2}),
                                settings.orders.data(),
                                orders,
                                arrays.take<float>("cells", {cells, 3, 3}),
                                arrays.take<std::int64_t>("cell_phase", {cells}),
                                arrays.take<float>("operators", {phases, group, 3, 3}),
                                phases,
                                group,
                                settings.top_cells,
                                settings.cells_edge,
                                settings.negligible,
                                settings.angles,
                                settings.peaks,
                                settings.window,
                                settings.modes,
                                settings.mode_radius,
                                settings.leading,
                                settings.confidence_radius,
                                settings.confidence_edge};
    arrays.require_all_taken();
    require_sound(spec);
    return std::make_unique<PosteriorNetwork>(weights, spec, numbers, instructions);
}

std::unique_ptr<ReferenceNetwork> make_reference_network(const NamedArrays& named,
                                                         const ReferenceSettings& settings, Numbers numbers,
                                                         const std::string& instructions) {
    Arrays arrays(named);
    const std::int64_t width = arrays.size("norm_in.weight", 0);
    require_heads(width, settings.heads);
    const ReferenceSpec spec = {width,
                                settings.heads,
                                arrays.size("radius_table", 0),
                                arrays.size("angle_table", 0),
                                arrays.size("intensity_table", 0),
                                arrays.size("phase_head.2.weight", 0)};
    require(spec.phases >= 1, "a reference model needs phases");
    const std::vector<BlockWeights> blocks = blocks_of(arrays, width);
    const ReferenceWeights weights = {arrays.take<float>("radius_table", {spec.radius_bins, width}),
                                      arrays.take<float>("angle_table", {spec.angle_bins, width}),
                                      arrays.take<float>("intensity_table", {spec.intensity_bins, width}),
                                      arrays.layer_norm("norm_in", width),
                                      blocks.data(),
                                      static_cast<std::int64_t>(blocks.size()),
                                      arrays.layer_norm("norm_out", width),
                                      {arrays.linear("orientation_head.0", width / 2, width),
                                       arrays.linear("orientation_head.3", width / 4, width / 2),
                                       arrays.linear("orientation_head.5", width / 8, width / 4),
                                       arrays.linear("orientation_head.7", 9, width / 8)},
                                      arrays.layer_norm("orientation_head.1", width / 2),
                                      {arrays.linear("phase_head.0", width / 2, width),
                                       arrays.linear("phase_head.2", spec.phases, width / 2)}};
    arrays.require_all_taken();
    return std::make_unique<ReferenceNetwork>(weights, spec, numbers, instructions);
}

}  // namespace microinfer
