#include "registration.hpp"

#include <microinfer/network_arrays.hpp>
#include <microinfer/posterior.hpp>
#include <microinfer/reference.hpp>

#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace microinfer::bindings {
namespace {

Numbers numbers_of(bool bfloat16) {
    return bfloat16 ? Numbers::bfloat16 : Numbers::float32;
}

ArrayView view_of(const std::string& name, const py::array& array) {
    const std::vector<std::int64_t> shape(array.shape(), array.shape() + array.ndim());
    if (holds<std::int64_t>(array)) {
        return {elements<std::int64_t>(array, name.c_str()), shape};
    }
    return {elements<float>(array, name.c_str()), shape};
}

NamedArrays views_of(const std::map<std::string, py::array>& arrays) {
    NamedArrays views;
    for (const auto& [name, array] : arrays) {
        views.emplace(name, view_of(name, array));
    }
    return views;
}

std::unique_ptr<PosteriorNetwork> make_posterior(const std::map<std::string, py::array>& arrays,
                                                 std::int64_t heads, const std::vector<std::int64_t>& orders,
                                                 std::int64_t top_cells, double cells_edge, double negligible,
                                                 std::int64_t angles, std::int64_t peaks, std::int64_t window,
                                                 std::int64_t modes, double mode_radius, double leading,
                                                 double confidence_radius, double confidence_edge,
                                                 bool bfloat16, const std::string& instructions) {
    return make_posterior_network(views_of(arrays),
                                  {heads, orders, top_cells, cells_edge, negligible, angles, peaks, window,
                                   modes, mode_radius, leading, confidence_radius, confidence_edge},
                                  numbers_of(bfloat16), instructions);
}

py::tuple find_modes_of(const PosteriorNetwork& network, const py::array& radius, const py::array& angle,
                        const py::array& intensity, const py::array& count) {
    const PaddedDisks disks = padded_disks<PaddedDisks, float>(radius, angle, intensity, count);
    const py::ssize_t modes = network.modes();
    py::array_t<float> matrix({disks.patterns, modes, py::ssize_t{3}, py::ssize_t{3}});
    py::array_t<std::int64_t> phase({disks.patterns, modes});
    py::array_t<float> probability({disks.patterns, modes});
    py::array_t<float> no_crystal(disks.patterns);
    const PosteriorModes found = {matrix.mutable_data(), phase.mutable_data(), probability.mutable_data(),
                                  no_crystal.mutable_data()};
    PosteriorSeconds seconds{};
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        seconds = network.find_modes(disks, found);
    }
    return py::make_tuple(py::make_tuple(matrix, phase, probability, no_crystal),
                          py::make_tuple(seconds.network, seconds.decoding));
}

std::unique_ptr<ReferenceNetwork> make_reference(const std::map<std::string, py::array>& arrays,
                                                 std::int64_t heads, bool bfloat16,
                                                 const std::string& instructions) {
    return make_reference_network(views_of(arrays), {heads}, numbers_of(bfloat16), instructions);
}

void require_bins(const char* name, const std::int32_t* bin, std::int64_t disks, std::int64_t bins) {
    for (std::int64_t i = 0; i < disks; ++i) {
        if (bin[i] < 0 || bin[i] >= bins) {
            throw py::value_error(std::string(name) + " must lie in [0, " + std::to_string(bins) + "), got " +
                                  std::to_string(bin[i]));
        }
    }
}

py::tuple answers_of(const ReferenceNetwork& network, const py::array& radius, const py::array& angle,
                     const py::array& intensity, const py::array& count) {
    const auto disks = padded_disks<BinnedDisks, std::int32_t>(radius, angle, intensity, count);
    const std::int64_t all = disks.patterns * disks.length;
    require_bins("radius", disks.radius, all, network.spec().radius_bins);
    require_bins("angle", disks.angle, all, network.spec().angle_bins);
    require_bins("intensity", disks.intensity, all, network.spec().intensity_bins);
    py::array_t<float> matrix({disks.patterns, std::int64_t{3}, std::int64_t{3}});
    py::array_t<std::int64_t> phase(disks.patterns);
    py::array_t<bool> determined(disks.patterns);
    float* const matrices = matrix.mutable_data();
    std::int64_t* const phases = phase.mutable_data();
    bool* const are_determined = determined.mutable_data();
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        network.answer(disks, matrices, phases, are_determined);
    }
    return py::make_tuple(matrix, phase, determined);
}

}  // namespace

void register_networks(py::module_& module) {
    module.def("instruction_sets", &instruction_sets,
               "The instruction sets that networks may use on this machine, the fastest last.");
    module.def("multiplies_bfloat16", &multiplies_bfloat16,
               "Whether the fastest of them multiplies bfloat16.");
    module.def("gains_by_bfloat16", &gains_by_bfloat16, "Whether networks are faster for it.");
    py::class_<PosteriorNetwork>(module, "PosteriorNetwork", "A posterior model, packed for this machine.")
        .def(py::init(&make_posterior), py::arg("arrays"), py::kw_only(), py::arg("heads"), py::arg("orders"),
             py::arg("top_cells"), py::arg("cells_edge"), py::arg("negligible"), py::arg("angles"),
             py::arg("peaks"), py::arg("window"), py::arg("modes"), py::arg("mode_radius"),
             py::arg("leading"), py::arg("confidence_radius"), py::arg("confidence_edge"),
             py::arg("bfloat16") = false, py::arg("instructions") = "auto")
        .def("find_modes", &find_modes_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"),
             py::arg("count"),
             "Two tuples: matrices (N, M, 3, 3), phases and probabilities (N, M) of the modes and "
             "probability of no crystal (N,); seconds of the network and of decoding, summed over threads.");
    py::class_<ReferenceNetwork>(module, "ReferenceNetwork", "A reference model, packed for this machine.")
        .def(py::init(&make_reference), py::arg("arrays"), py::kw_only(), py::arg("heads"),
             py::arg("bfloat16") = false, py::arg("instructions") = "auto")
        .def("answer", &answers_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"),
             py::arg("count"),
             "Matrices (N, 3, 3) and phases (N,) of patterns, by the bins of their disks, and whether the "
             "network's output determines the matrices (N,).");
}

}  // namespace microinfer::bindings
