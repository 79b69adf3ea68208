#include "registration.hpp"

#include <microinfer/detection.hpp>

#include <pybind11/complex.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace microinfer::bindings {
namespace {

using Complex = std::complex<float>;

Subpixel subpixel(const std::string& name) {
    if (name == "none") {
        return Subpixel::none;
    }
    if (name == "parabola") {
        return Subpixel::parabola;
    }
    if (name == "interpolation") {
        return Subpixel::interpolation;
    }
    throw py::value_error("subpixel must be none, parabola or interpolation, got '" + name + "'");
}

std::unique_ptr<DiskDetector> detector(const py::array& floor, const py::array& good, const py::array& fill,
                                       const py::array& before, const std::optional<py::array>& after,
                                       const DiskSpec& spec) {
    if (floor.ndim() != 2) {
        throw py::value_error("floor must have shape (Qx, Qy), got " + shape_text(floor));
    }
    require_shape(good, "good", {floor.shape(0), floor.shape(1)});
    if (before.ndim() != 2) {
        throw py::value_error("before must have shape (Px, Py), got " + shape_text(before));
    }
    if (after) {
        require_shape(*after, "after", {before.shape(0), before.shape(1)});
    }
    const bool* const counts = elements<bool>(good, "good");
    const py::ssize_t bad = std::count(counts, counts + good.size(), false);
    if (fill.ndim() != 2 || fill.shape(0) != bad) {
        throw py::value_error("fill must have shape (" + std::to_string(bad) +
                              ", n), a row for each pixel that does not count, got " + shape_text(fill));
    }
    const FrameLayout layout = {floor.shape(0), floor.shape(1), elements<float>(floor, "floor"),
                                counts,         fill.shape(1),  elements<std::int64_t>(fill, "fill")};
    const KernelView kernel = {before.shape(0), before.shape(1), elements<Complex>(before, "before"),
                               after ? elements<float>(*after, "after") : nullptr};
    return std::make_unique<DiskDetector>(layout, kernel, spec);
}

/// Calls `body` with the frames' elements, whichever number type they are of.
template <typename Body>
auto with_elements(const DiskDetector& self, const py::array& frames, const Body& body) {
    if (frames.ndim() != 4 || frames.shape(2) != self.rows() || frames.shape(3) != self.columns()) {
        throw py::value_error("frames must have shape (R, N, " + std::to_string(self.rows()) + ", " +
                              std::to_string(self.columns()) + "), got " + shape_text(frames));
    }
    if (holds<std::uint8_t>(frames)) {
        return body(elements<std::uint8_t>(frames, "frames"));
    }
    if (holds<std::uint16_t>(frames)) {
        return body(elements<std::uint16_t>(frames, "frames"));
    }
    if (holds<std::uint32_t>(frames)) {
        return body(elements<std::uint32_t>(frames, "frames"));
    }
    if (holds<std::int8_t>(frames)) {
        return body(elements<std::int8_t>(frames, "frames"));
    }
    if (holds<std::int16_t>(frames)) {
        return body(elements<std::int16_t>(frames, "frames"));
    }
    if (holds<std::int32_t>(frames)) {
        return body(elements<std::int32_t>(frames, "frames"));
    }
    if (holds<double>(frames)) {
        return body(elements<double>(frames, "frames"));
    }
    return body(elements<float>(frames, "frames"));
}

py::tuple find(const DiskDetector& self, const py::array& frames,
               const std::optional<py::array>& correlations) {
    const float* given = nullptr;
    if (correlations) {
        given = elements<float>(*correlations, "correlations");
        require_shape(*correlations, "correlations",
                      {frames.shape(0), frames.shape(1), self.rows(), self.columns()});
    }
    const FoundDisks found = with_elements(self, frames, [&](const auto* data) {
        const py::gil_scoped_release release;  // safe: only plain memory that the arguments keep alive
        return self.find(data, frames.shape(0), frames.shape(1), given);
    });
    const auto size = static_cast<py::ssize_t>(found.disks.size());
    py::array_t<std::int64_t> offsets(static_cast<py::ssize_t>(found.offsets.size()), found.offsets.data());
    py::array_t<float> table({py::ssize_t{5}, size});
    float* const out = table.mutable_data();
    for (py::ssize_t i = 0; i < size; ++i) {
        const Disk& disk = found.disks[static_cast<std::size_t>(i)];
        out[i] = disk.x;
        out[size + i] = disk.y;
        out[2 * size + i] = disk.correlation;
        out[3 * size + i] = disk.intensity;
        out[4 * size + i] = disk.background;
    }
    return py::make_tuple(std::move(offsets), std::move(table));
}

py::array_t<float> correlate(const DiskDetector& self, const py::array& frames) {
    return with_elements(self, frames, [&](const auto* data) {
        py::array_t<float> correlations({frames.shape(0), frames.shape(1), frames.shape(2), frames.shape(3)});
        float* const out = correlations.mutable_data();
        const py::gil_scoped_release release;  // safe: `out` is of an array that nobody else knows yet
        self.correlate(data, frames.shape(0), frames.shape(1), out);
        return correlations;
    });
}

}  // namespace

void register_detection(py::module_& module) {
    static py::exception<NotFinite> not_finite(module, "NotFiniteError", PyExc_ValueError);
    py::register_exception_translator([](std::exception_ptr raised) {
        try {
            if (raised) {
                std::rethrow_exception(raised);
            }
        } catch (const NotFinite& error) {
            PyErr_SetObject(not_finite.ptr(), py::int_(error.frame).ptr());
        }
    });
    module.def("transform_length", &transform_length, py::arg("length"),
               "The smallest length from `length` on that frames can be padded to.");
    py::class_<DiskSpec>(module, "DiskSpec")
        .def(py::init([](float radius, float background_inner, float background_outer, float min_snr,
                         float gain, float kernel_square, float noise_floor, float min_relative,
                         std::int32_t relative_to, float min_spacing, std::int32_t max_disks,
                         float correlation_power, const std::string& name) {
                 return DiskSpec{radius,        background_inner,  background_outer, min_snr,     gain,
                                 kernel_square, noise_floor,       min_relative,     relative_to, min_spacing,
                                 max_disks,     correlation_power, subpixel(name)};
             }),
             py::kw_only(), py::arg("radius"), py::arg("background_inner"), py::arg("background_outer"),
             py::arg("min_snr"), py::arg("gain"), py::arg("kernel_square"), py::arg("noise_floor"),
             py::arg("min_relative"), py::arg("relative_to"), py::arg("min_spacing"), py::arg("max_disks"),
             py::arg("correlation_power"), py::arg("subpixel"));
    py::class_<DiskDetector>(module, "DiskDetector")
        .def(py::init(&detector), py::kw_only(), py::arg("floor"), py::arg("good"), py::arg("fill"),
             py::arg("before"), py::arg("after"), py::arg("spec"))
        .def(
            "find", &find, py::arg("frames"), py::kw_only(), py::arg("correlations") = py::none(),
            "Of frames (R, N, Qx, Qy): offsets (R N + 1,), and of all disks x, y, correlation, intensity and "
            "background, (5, P).")
        .def("correlate", &correlate, py::arg("frames"), "The correlations (R, N, Qx, Qy).");
}

}  // namespace microinfer::bindings
