#include "registration.hpp"

#include <microinfer/refinement.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <memory>
#include <vector>

namespace microinfer::bindings {
namespace {

std::unique_ptr<Refinement> make_refinement(const py::array& reflections, const py::array& offsets,
                                            double wavelength, double tilt_error) {
    require_shape(reflections, "reflections", {reflections.ndim() > 0 ? reflections.shape(0) : 0, 4});
    const double* const first = elements<double>(reflections, "reflections");
    const std::int64_t* const begin = elements<std::int64_t>(offsets, "offsets");
    RefinementSpec spec;
    spec.tilt_error = tilt_error;
    return std::make_unique<Refinement>(std::vector<double>(first, first + reflections.size()),
                                        std::vector<std::int64_t>(begin, begin + offsets.size()), wavelength,
                                        spec);
}

py::tuple polish_of(const Refinement& refinement, const py::array& radius, const py::array& angle,
                    const py::array& intensity, const py::array& count, const py::array& matrix,
                    const py::array& phase) {
    const PaddedDisks disks = padded_disks(radius, angle, intensity, count);
    const py::ssize_t candidates = matrix.ndim() == 4 ? matrix.shape(1) : 0;
    require_shape(matrix, "matrix", {disks.patterns, candidates, 3, 3});
    require_shape(phase, "phase", {disks.patterns, candidates});
    const float* const starts = elements<float>(matrix, "matrix");
    const std::int64_t* const phases = elements<std::int64_t>(phase, "phase");
    if (std::any_of(phases, phases + phase.size(),
                    [&](std::int64_t p) { return p < 0 || p >= refinement.phases(); })) {
        throw py::value_error("phase must lie in [0, " + std::to_string(refinement.phases()) + ")");
    }
    py::array_t<double> orientation({disks.patterns, candidates, py::ssize_t{3}, py::ssize_t{3}});
    py::array_t<double> log_likelihood({disks.patterns, candidates});
    py::array_t<double> score({disks.patterns, candidates});
    double* const matrices = orientation.mutable_data();
    double* const likelihoods = log_likelihood.mutable_data();
    double* const scores = score.mutable_data();
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        parallel_for(disks.patterns, 1, [&](std::int64_t begin, std::int64_t end) {
            std::vector<Polished> polished(static_cast<std::size_t>(candidates));
            for (std::int64_t i = begin; i < end; ++i) {
                const std::int64_t at = i * candidates;
                refinement.polish(disks, i, {starts + 9 * at, phases + at, candidates}, polished.data());
                for (std::int64_t k = 0; k < candidates; ++k) {
                    const Polished& found = polished[static_cast<std::size_t>(k)];
                    std::copy_n(found.matrix, 9, matrices + 9 * (at + k));
                    likelihoods[at + k] = found.log_likelihood;
                    scores[at + k] = found.score;
                }
            }
        });
    }
    return py::make_tuple(orientation, log_likelihood, score);
}

}  // namespace

void register_refinement(py::module_& module) {
    const auto spec = [](auto member) {
        return [member](const Refinement& refinement) { return refinement.spec().*member; };
    };
    py::class_<Refinement>(module, "Refinement",
                           "Polishes candidates against the reflections of some phases.")
        .def(py::init(&make_refinement), py::arg("reflections"), py::arg("offsets"), py::arg("wavelength"),
             py::kw_only(), py::arg("tilt_error") = RefinementSpec{}.tilt_error)
        .def_property_readonly("match_radius", spec(&RefinementSpec::match_radius), "In 1/Angstrom.")
        .def_property_readonly("excitation_error", spec(&RefinementSpec::excitation_error), "In 1/Angstrom.")
        .def("polish", &polish_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"),
             py::arg("count"), py::arg("matrix"), py::arg("phase"),
             "Polished candidates (N, K, 3, 3), their log-likelihood and score, (N, K) each.");
}

}  // namespace microinfer::bindings
