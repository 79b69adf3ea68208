#include "registration.hpp"

#include <pybind11/stl.h>

#include <array>
#include <string>

namespace microinfer::bindings {
namespace {

void require(bool condition, const std::string& message) {
    if (!condition) {
        throw py::value_error(message);
    }
}

TokenSpec checked_spec(float radius_max, std::int32_t radius_bins, std::int32_t angle_bins,
                       float intensity_min, std::int32_t intensity_bins, float direct_beam_radius,
                       std::int32_t max_disks, std::int32_t min_disks) {
    const TokenSpec spec = {radius_max,     radius_bins,        angle_bins, intensity_min,
                            intensity_bins, direct_beam_radius, max_disks,  min_disks};
    require_sound(spec);
    return spec;
}

void check_length(std::int64_t length) {
    require(length >= 0, "length must be at least 0, got " + std::to_string(length));
}

}  // namespace

RaggedPeaks checked_peaks(const py::array& qx, const py::array& qy, const py::array& intensity,
                          const py::array& offsets) {
    const RaggedPeaks peaks = {elements<float>(qx, "qx"),
                               elements<float>(qy, "qy"),
                               elements<float>(intensity, "intensity"),
                               elements<std::int64_t>(offsets, "offsets"),
                               offsets.size() - 1,
                               qx.size()};
    require(qx.ndim() == 1, "qx must have shape (P,), got " + shape_text(qx));
    const std::string as_qx = " must have the shape of qx, " + shape_text(qx) + ", got ";
    require(qy.ndim() == 1 && qy.size() == qx.size(), "qy" + as_qx + shape_text(qy));
    require(intensity.ndim() == 1 && intensity.size() == qx.size(),
            "intensity" + as_qx + shape_text(intensity));
    require(offsets.ndim() == 1 && offsets.size() >= 1,
            "offsets must have shape (N + 1,), got " + shape_text(offsets));
    require_sound(peaks);
    return peaks;
}

namespace {

py::array_t<std::int32_t> count_disks_of(const py::array& qx, const py::array& qy, const py::array& intensity,
                                         const py::array& offsets, const TokenSpec& spec) {
    const RaggedPeaks peaks = checked_peaks(qx, qy, intensity, offsets);
    py::array_t<std::int32_t> count(peaks.patterns);
    std::int32_t* const data = count.mutable_data();
    {
        const py::gil_scoped_release
            release;  // safe: only plain memory that the arguments and `count` keep alive
        count_disks(peaks, spec, data);
    }
    return count;
}

py::tuple tokenize_of(const py::array& qx, const py::array& qy, const py::array& intensity,
                      const py::array& offsets, const TokenSpec& spec, std::int64_t length) {
    check_length(length);
    const RaggedPeaks peaks = checked_peaks(qx, qy, intensity, offsets);
    py::array_t<float> radius({peaks.patterns, length});
    py::array_t<float> angle({peaks.patterns, length});
    py::array_t<float> relative({peaks.patterns, length});
    py::array_t<std::int32_t> radius_bin({peaks.patterns, length});
    py::array_t<std::int32_t> angle_bin({peaks.patterns, length});
    py::array_t<std::int32_t> intensity_bin({peaks.patterns, length});
    py::array_t<bool> mask({peaks.patterns, length});
    py::array_t<std::int32_t> count(peaks.patterns);
    py::array_t<bool> valid(peaks.patterns);
    const TokenArrays tokens = {radius.mutable_data(),    angle.mutable_data(),
                                relative.mutable_data(),  radius_bin.mutable_data(),
                                angle_bin.mutable_data(), intensity_bin.mutable_data(),
                                mask.mutable_data(),      count.mutable_data(),
                                valid.mutable_data(),     length};
    {
        const py::gil_scoped_release release;  // safe: only plain memory that the arrays above keep alive
        tokenize(peaks, spec, tokens);
    }
    return py::make_tuple(radius, angle, relative, radius_bin, angle_bin, intensity_bin, mask, count, valid);
}

/// Device arrays of `patterns` patterns and `peaks` peaks, as addresses.
RaggedPeaks device_peaks(std::uintptr_t qx, std::uintptr_t qy, std::uintptr_t intensity,
                         std::uintptr_t offsets, std::int64_t patterns, std::int64_t peaks) {
    return {pointer<float>(qx),
            pointer<float>(qy),
            pointer<float>(intensity),
            pointer<std::int64_t>(offsets),
            patterns,
            peaks};
}

void count_disks_cuda(std::uintptr_t qx, std::uintptr_t qy, std::uintptr_t intensity, std::uintptr_t offsets,
                      std::int64_t patterns, std::int64_t peaks, const TokenSpec& spec, std::uintptr_t count,
                      int device, std::uintptr_t stream) {
    cuda::count_disks(device_peaks(qx, qy, intensity, offsets, patterns, peaks), spec,
                      pointer<std::int32_t>(count), {device, stream});
}

void tokenize_cuda(std::uintptr_t qx, std::uintptr_t qy, std::uintptr_t intensity, std::uintptr_t offsets,
                   std::int64_t patterns, std::int64_t peaks, const TokenSpec& spec, std::int64_t length,
                   const std::array<std::uintptr_t, 9>& out, int device, std::uintptr_t stream) {
    check_length(length);
    const TokenArrays tokens = {pointer<float>(out[0]),        pointer<float>(out[1]),
                                pointer<float>(out[2]),        pointer<std::int32_t>(out[3]),
                                pointer<std::int32_t>(out[4]), pointer<std::int32_t>(out[5]),
                                pointer<bool>(out[6]),         pointer<std::int32_t>(out[7]),
                                pointer<bool>(out[8]),         length};
    cuda::tokenize(device_peaks(qx, qy, intensity, offsets, patterns, peaks), spec, tokens, {device, stream});
}

}  // namespace

void register_tokens(py::module_& module) {
    py::class_<TokenSpec>(module, "TokenSpec", "Ranges, bins and limits of tokenization, checked.")
        .def(py::init(&checked_spec), py::kw_only(), py::arg("radius_max"), py::arg("radius_bins"),
             py::arg("angle_bins"), py::arg("intensity_min"), py::arg("intensity_bins"),
             py::arg("direct_beam_radius"), py::arg("max_disks"), py::arg("min_disks"));
    module.def("count_disks", &count_disks_of, py::arg("qx"), py::arg("qy"), py::arg("intensity"),
               py::arg("offsets"), py::arg("spec"),
               "Number of disks that tokenize() keeps in each pattern, (N,).");
    module.def(
        "tokenize", &tokenize_of, py::arg("qx"), py::arg("qy"), py::arg("intensity"), py::arg("offsets"),
        py::arg("spec"), py::arg("length"),
        "Tokens of ragged Bragg peaks: radius, angle, intensity, their bins and mask, (N, length); count and "
        "valid, (N,).");
    // The GIL is released: these only enqueue kernels on device memory that the caller keeps alive.
    module.def("count_disks_cuda", &count_disks_cuda, py::call_guard<py::gil_scoped_release>());
    module.def("tokenize_cuda", &tokenize_cuda, py::call_guard<py::gil_scoped_release>());
}

}  // namespace microinfer::bindings
