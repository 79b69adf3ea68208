#include "registration.hpp"

#include <microinfer/posterior.hpp>

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace microinfer::bindings {
namespace {

using Shape = std::vector<py::ssize_t>;

/// A model's arrays by name; a missing or ill-shaped one is named.
class Arrays {
  public:
    explicit Arrays(std::map<std::string, py::array> arrays) : arrays_(std::move(arrays)) {}

    template <typename T>
    [[nodiscard]] const T* get(const std::string& name, const Shape& shape) const {
        const py::array& array = find(name);
        if (Shape(array.shape(), array.shape() + array.ndim()) != shape) {
            throw py::value_error(name + " does not fit the other arrays, got shape " + shape_text(array));
        }
        return elements<T>(array, name.c_str());
    }

    [[nodiscard]] py::ssize_t size(const std::string& name, py::ssize_t axis) const {
        const py::array& array = find(name);
        if (array.ndim() <= axis) {
            throw py::value_error(name + " has too few axes, got shape " + shape_text(array));
        }
        return array.shape(axis);
    }

    [[nodiscard]] bool has(const std::string& name) const { return arrays_.count(name) > 0; }

    [[nodiscard]] LinearWeights linear(const std::string& name, py::ssize_t outputs,
                                       py::ssize_t inputs) const {
        return {get<float>(name + ".weight", {outputs, inputs}), get<float>(name + ".bias", {outputs}),
                outputs, inputs};
    }

    [[nodiscard]] LinearWeights linear_without_bias(const std::string& name, py::ssize_t outputs,
                                                    py::ssize_t inputs) const {
        return {get<float>(name + ".weight", {outputs, inputs}), nullptr, outputs, inputs};
    }

    [[nodiscard]] LayerNormWeights layer_norm(const std::string& name, py::ssize_t width) const {
        return {get<float>(name + ".weight", {width}), get<float>(name + ".bias", {width})};
    }

  private:
    [[nodiscard]] const py::array& find(const std::string& name) const {
        const auto found = arrays_.find(name);
        if (found == arrays_.end()) {
            throw py::value_error("the model has no array " + name);
        }
        return found->second;
    }

    std::map<std::string, py::array> arrays_;
};

std::unique_ptr<PosteriorNetwork> make_network(const std::map<std::string, py::array>& named,
                                               std::int64_t heads, const py::array& orders,
                                               std::int64_t top_cells, double negligible, std::int64_t angles,
                                               std::int64_t peaks, std::int64_t window, std::int64_t modes,
                                               double mode_radius, double confidence_radius,
                                               double confidence_edge, bool bfloat16,
                                               const std::string& instructions) {
    const Arrays arrays(named);
    const py::ssize_t width = arrays.size("norm.weight", 0);
    const py::ssize_t cells = arrays.size("cells", 0);
    const py::ssize_t channels = arrays.size("cell_waves.0.weight", 1);
    const py::ssize_t order_count = orders.size();
    if (heads < 1 || width % (2 * heads) != 0) {
        throw py::value_error("the width " + std::to_string(width) +
                              " must be a multiple of twice the heads, got " + std::to_string(heads));
    }
    if (cells < 1 || order_count < 1 || top_cells < 1 || angles < 3 || peaks < 1 || window < 0 || modes < 1 ||
        window >= angles) {
        throw py::value_error("a posterior needs cells, orders, angles, peaks and modes");
    }

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
    std::vector<LinearWeights> cell_waves;
    for (py::ssize_t n = 0; n < order_count; ++n) {
        cell_waves.push_back(
            arrays.linear_without_bias("cell_waves." + std::to_string(n), 2 * cells, channels));
    }
    const PosteriorWeights weights = {
        {arrays.linear("embedding.0", width, 64), arrays.linear("embedding.2", width, width)},
        blocks.data(),
        static_cast<std::int64_t>(blocks.size()),
        arrays.layer_norm("norm", width),
        {arrays.linear("cell_head.0", 2 * width, 2 * width),
         arrays.linear("cell_head.2", cells + 1, 2 * width)},
        arrays.linear("disk_waves", order_count * channels * 2, width),
        arrays.linear("wave_gate", order_count * channels, 2 * width),
        cell_waves.data()};
    const py::ssize_t phases = arrays.size("operators", 0);
    const py::ssize_t group = arrays.size("operators", 1);
    const PosteriorSpec spec = {width,
                                heads,
                                channels,
                                cells,
                                arrays.get<std::int64_t>("harmonics", {width / heads / 2}),
                                elements<std::int64_t>(orders, "orders"),
                                order_count,
                                arrays.get<float>("cells", {cells, 3, 3}),
                                arrays.get<std::int64_t>("cell_phase", {cells}),
                                arrays.get<float>("operators", {phases, group, 3, 3}),
                                phases,
                                group,
                                top_cells,
                                negligible,
                                angles,
                                peaks,
                                window,
                                modes,
                                mode_radius,
                                confidence_radius,
                                confidence_edge};
    for (py::ssize_t n = 0; n < order_count; ++n) {
        if (spec.orders[n] < 1 || (n > 0 && spec.orders[n] <= spec.orders[n - 1])) {
            throw py::value_error("orders must rise from 1 or more, got " + std::to_string(spec.orders[n]) +
                                  " at " + std::to_string(n));
        }
    }
    for (py::ssize_t d = 0; d < width / heads / 2; ++d) {
        if (spec.harmonics[d] < 0) {
            throw py::value_error("harmonics must not be negative, got " + std::to_string(spec.harmonics[d]));
        }
    }
    for (py::ssize_t k = 0; k < cells; ++k) {
        if (spec.cell_phase[k] < 0 || spec.cell_phase[k] >= phases) {
            throw py::value_error("cell_phase must lie in [0, " + std::to_string(phases) + "), got " +
                                  std::to_string(spec.cell_phase[k]));
        }
    }
    return std::make_unique<PosteriorNetwork>(weights, spec, bfloat16 ? Numbers::bfloat16 : Numbers::float32,
                                              instructions);
}

py::tuple find_modes_of(const PosteriorNetwork& network, const py::array& radius, const py::array& angle,
                        const py::array& intensity, const py::array& count) {
    const PaddedDisks disks = padded_disks(radius, angle, intensity, count);
    const py::ssize_t modes = network.modes();
    py::array_t<float> matrix({disks.patterns, modes, py::ssize_t{3}, py::ssize_t{3}});
    py::array_t<std::int64_t> phase({disks.patterns, modes});
    py::array_t<float> probability({disks.patterns, modes});
    py::array_t<float> no_crystal(disks.patterns);
    const PosteriorModes found = {matrix.mutable_data(), phase.mutable_data(), probability.mutable_data(),
                                  no_crystal.mutable_data()};
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        network.find_modes(disks, found);
    }
    return py::make_tuple(matrix, phase, probability, no_crystal);
}

}  // namespace

void register_posterior(py::module_& module) {
    module.def("instruction_sets", &instruction_sets,
               "The instruction sets that a PosteriorNetwork may use on this machine, the fastest last.");
    module.def("multiplies_bfloat16", &multiplies_bfloat16,
               "Whether the fastest of them multiplies bfloat16.");
    py::class_<PosteriorNetwork>(module, "PosteriorNetwork", "A posterior model, packed for this machine.")
        .def(py::init(&make_network), py::arg("arrays"), py::kw_only(), py::arg("heads"), py::arg("orders"),
             py::arg("top_cells"), py::arg("negligible"), py::arg("angles"), py::arg("peaks"),
             py::arg("window"), py::arg("modes"), py::arg("mode_radius"), py::arg("confidence_radius"),
             py::arg("confidence_edge"), py::arg("bfloat16") = false, py::arg("instructions") = "auto")
        .def("find_modes", &find_modes_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"),
             py::arg("count"),
             "Matrices (N, M, 3, 3), phases and probabilities (N, M) of the modes; probability of no crystal "
             "(N,).");
}

}  // namespace microinfer::bindings
