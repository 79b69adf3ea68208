#include "registration.hpp"

#include <microinfer/model.hpp>

#include <pybind11/stl.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace microinfer::bindings {
namespace {

/// A structured dtype of Candidate: one row for each field.
py::dtype candidate_dtype() {
    py::list names;
    py::list formats;
    py::list offsets;
    const auto field = [&](const char* name, const char* format, std::size_t offset) {
        names.append(name);
        formats.append(format);
        offsets.append(offset);
    };
    field("matrix", "(3,3)f4", offsetof(Candidate, matrix));
    field("probability", "f4", offsetof(Candidate, probability));
    field("score", "f4", offsetof(Candidate, score));
    field("phase", "i2", offsetof(Candidate, phase));
    return {names, formats, offsets, sizeof(Candidate)};
}

py::array candidates_of(py::ssize_t patterns, const Model& model) {
    return {candidate_dtype(), std::vector<py::ssize_t>{patterns, model.candidates()}};
}

NamedArrays views_of(const std::map<std::string, py::array>& arrays) {
    NamedArrays views;
    for (const auto& [name, array] : arrays) {
        const std::vector<std::int64_t> shape(array.shape(), array.shape() + array.ndim());
        if (holds<std::int64_t>(array)) {
            views.emplace(name, ArrayView{elements<std::int64_t>(array, name.c_str()), shape});
        } else {
            views.emplace(name, ArrayView{elements<float>(array, name.c_str()), shape});
        }
    }
    return views;
}

std::unique_ptr<Model> make_model(const std::string& header, const std::map<std::string, py::array>& arrays,
                                  bool bfloat16, const std::string& instructions) {
    return std::make_unique<Model>(header, views_of(arrays), NetworkOptions{bfloat16, instructions});
}

std::string checksum_of(const std::string& header, const std::map<std::string, py::array>& arrays) {
    return checksum(header, views_of(arrays));
}

py::tuple answer_of(const Model& model, const py::array& qx, const py::array& qy, const py::array& intensity,
                    const py::array& offsets, const std::optional<py::array>& selected,
                    std::int32_t min_disks, bool refine) {
    const RaggedPeaks peaks = checked_peaks(qx, qy, intensity, offsets);
    AnswerOptions options{refine, min_disks, nullptr};
    if (selected) {
        require_shape(*selected, "selected", {peaks.patterns});
        options.selected = elements<bool>(*selected, "selected");
    }
    py::array candidates = candidates_of(peaks.patterns, model);
    py::array_t<bool> valid(peaks.patterns);
    py::array_t<std::int32_t> disks(peaks.patterns);
    const Answers to = {static_cast<Candidate*>(candidates.mutable_data()), valid.mutable_data(),
                        disks.mutable_data()};
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        model.answer(peaks, options, to);
    }
    return py::make_tuple(candidates, valid, disks);
}

py::array rank_of(const Model& model, const py::array& radius, const py::array& angle,
                  const py::array& intensity, const py::array& count, const py::array& matrix,
                  const py::array& phase, const py::array& probability, bool refine) {
    const PaddedDisks disks = padded_disks(radius, angle, intensity, count);
    const std::vector<py::ssize_t> shape = {disks.patterns, model.candidates()};
    require_shape(matrix, "matrix", {disks.patterns, model.candidates(), 3, 3});
    require_shape(phase, "phase", shape);
    require_shape(probability, "probability", shape);
    const FoundCandidates found = {elements<float>(matrix, "matrix"), elements<std::int64_t>(phase, "phase"),
                                   elements<float>(probability, "probability")};
    py::array candidates = candidates_of(disks.patterns, model);
    const Answers to = {static_cast<Candidate*>(candidates.mutable_data()), nullptr, nullptr};
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
        model.rank(disks, found, refine, to);
    }
    return candidates;
}

}  // namespace

void register_model(py::module_& module) {
    module.def("instruction_sets", &instruction_sets,
               "The instruction sets that networks may use on this machine, the fastest last.");
    module.def("multiplies_bfloat16", &multiplies_bfloat16,
               "Whether the fastest of them multiplies bfloat16.");
    module.def("gains_by_bfloat16", &gains_by_bfloat16, "Whether networks are faster for it.");
    module.def("checksum", &checksum_of, py::arg("header"), py::arg("arrays"),
               "The checksum that a checkpoint of this header and these arrays states.");
    py::class_<Model>(module, "Model", "A model in the core: from Bragg peaks to ranked answers.")
        .def(py::init(&make_model), py::arg("header"), py::arg("arrays"), py::kw_only(),
             py::arg("bfloat16") = false, py::arg("instructions") = "auto")
        .def_property_readonly("candidates", &Model::candidates, "Candidates of each pattern, K.")
        .def_property_readonly("can_refine", &Model::can_refine, "Whether answers can be refined.")
        .def(
            "answer", &answer_of, py::arg("qx"), py::arg("qy"), py::arg("intensity"), py::arg("offsets"),
            py::kw_only(), py::arg("selected") = py::none(), py::arg("min_disks") = 0,
            py::arg("refine") = true,
            "Ranked candidates (N, K), structured; whether there is an answer and how many disks were looked "
            "at, (N,) each.")
        .def("rank", &rank_of, py::arg("radius"), py::arg("angle"), py::arg("intensity"), py::arg("count"),
             py::arg("matrix"), py::arg("phase"), py::arg("probability"), py::kw_only(),
             py::arg("refine") = true,
             "Ranked candidates (N, K), structured, of those that a network in torch has found.");
}

}  // namespace microinfer::bindings
