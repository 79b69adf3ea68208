#include "registration.hpp"

#include <microinfer/posterior.hpp>
#include <microinfer/posterior_arrays.hpp>

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace microinfer::bindings {
namespace {

ArrayView view_of(const std::string& name, const py::array& array) {
    const std::vector<std::int64_t> shape(array.shape(), array.shape() + array.ndim());
    if (holds<std::int64_t>(array)) {
        return {elements<std::int64_t>(array, name.c_str()), shape};
    }
    return {elements<float>(array, name.c_str()), shape};
}

std::unique_ptr<PosteriorNetwork> make_network(const std::map<std::string, py::array>& arrays,
                                               std::int64_t heads, const std::vector<std::int64_t>& orders,
                                               std::int64_t top_cells, double negligible, std::int64_t angles,
                                               std::int64_t peaks, std::int64_t window, std::int64_t modes,
                                               double mode_radius, double confidence_radius,
                                               double confidence_edge, const std::string& instructions) {
    NamedArrays views;
    for (const auto& [name, array] : arrays) {
        views.emplace(name, view_of(name, array));
    }
    return make_posterior_network(views,
                                  {heads, orders, top_cells, negligible, angles, peaks, window, modes,
                                   mode_radius, confidence_radius, confidence_edge},
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
    py::class_<PosteriorNetwork>(module, "PosteriorNetwork", "A posterior model, packed for this machine.")
        .def(py::init(&make_network), py::arg("arrays"), py::kw_only(), py::arg("heads"), py::arg("orders"),
             py::arg("top_cells"), py::arg("negligible"), py::arg("angles"), py::arg("peaks"),
             py::arg("window"), py::arg("modes"), py::arg("mode_radius"), py::arg("confidence_radius"),
             py::arg("confidence_edge"), py::arg("instructions") = "auto")
        .def("find_modes", &find_modes_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"),
             py::arg("count"),
             "Matrices (N, M, 3, 3), phases and probabilities (N, M) of the modes; probability of no crystal "
             "(N,).");
}

}  // namespace microinfer::bindings
