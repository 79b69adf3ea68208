#include "registration.hpp"

#include <microinfer/refinement.hpp>

#include <string>

namespace microinfer::bindings {
namespace {

void require(bool condition, const std::string& message) {
    if (!condition) {
        throw py::value_error(message);
    }
}

py::tuple refine_of(const py::array& radius, const py::array& angle, const py::array& intensity,
                    const py::array& count, const py::array& matrix, const py::array& phase,
                    const py::array& selected, const py::array& vectors, const py::array& offsets,
                    const RefinementSpec& spec) {
    const PaddedDisks disks = padded_disks<PaddedDisks, float>(radius, angle, intensity, count);
    const py::ssize_t patterns = disks.patterns;
    const auto require_shape = [](const py::array& array, const char* name,
                                  const std::vector<py::ssize_t>& shape) {
        const std::vector<py::ssize_t> found(array.shape(), array.shape() + array.ndim());
        require(found == shape,
                std::string(name) + " does not fit the other arguments, got shape " + shape_text(array));
    };
    require(matrix.ndim() == 4, "matrix must have shape (N, K, 3, 3), got " + shape_text(matrix));
    const py::ssize_t candidates = matrix.shape(1);
    require_shape(matrix, "matrix", {patterns, candidates, 3, 3});
    require_shape(phase, "phase", {patterns, candidates});
    require_shape(selected, "selected", {patterns, candidates});
    require(offsets.ndim() == 1 && offsets.size() >= 2,
            "offsets must have shape (phases + 1,), got " + shape_text(offsets));
    require(vectors.ndim() == 2 && vectors.shape(1) == 4,
            "vectors must have shape (M, 4), got " + shape_text(vectors));
    require_sound(spec);

    const Reflections reflections = {elements<double>(vectors, "vectors"),
                                     elements<std::int64_t>(offsets, "offsets"), offsets.size() - 1};
    const Candidates starts = {elements<double>(matrix, "matrix"), elements<std::int64_t>(phase, "phase"),
                               elements<bool>(selected, "selected"), candidates};
    for (py::ssize_t i = 0; i < phase.size(); ++i) {
        if (starts.phase[i] < 0 || starts.phase[i] >= reflections.phases) {
            throw py::value_error("phase must lie in [0, " + std::to_string(reflections.phases) + "), got " +
                                  std::to_string(starts.phase[i]));
        }
    }
    for (std::int64_t i = 0; i <= reflections.phases; ++i) {
        const std::int64_t before = i > 0 ? reflections.offsets[i - 1] : 0;
        require(reflections.offsets[i] >= before && reflections.offsets[i] <= vectors.shape(0),
                "offsets must rise from 0 to the number of reflections, " + std::to_string(vectors.shape(0)));
    }

    py::array_t<double> polished({patterns, candidates, py::ssize_t{3}, py::ssize_t{3}});
    py::array_t<double> log_likelihood({patterns, candidates});
    py::array_t<double> explained({patterns, candidates});
    py::array_t<double> score({patterns, candidates});
    py::array_t<double> position_error({patterns, candidates});
    const Refined refined = {polished.mutable_data(), log_likelihood.mutable_data(), explained.mutable_data(),
                             score.mutable_data(), position_error.mutable_data()};
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        refine(disks, reflections, starts, spec, refined);
    }
    return py::make_tuple(polished, log_likelihood, explained, score, position_error);
}

}  // namespace

void register_refinement(py::module_& module) {
    py::class_<RefinementSpec>(module, "RefinementSpec", "What a kinematic refinement assumes.")
        .def(py::init<double, double, double, double, double, double, double, double, std::int32_t>(),
             py::kw_only(), py::arg("wavelength"), py::arg("match_radius"), py::arg("position_error"),
             py::arg("excitation_error"), py::arg("excitation_slope"), py::arg("tilt_error"),
             py::arg("in_plane_error"), py::arg("false_share"), py::arg("steps"));
    module.def("refine", &refine_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"),
               py::arg("count"), py::arg("matrix"), py::arg("phase"), py::arg("selected"), py::arg("vectors"),
               py::arg("offsets"), py::arg("spec"),
               "Polished candidates (N, K, 3, 3); log-likelihood, explained share, score and position error, "
               "(N, K) each.");
}

}  // namespace microinfer::bindings
