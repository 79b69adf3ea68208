/// What the topics of the extension register, and the checks of arguments that they share.
#pragma once

#include <microinfer/cuda.hpp>
#include <microinfer/disks.hpp>
#include <microinfer/tokenizer.hpp>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

namespace microinfer::bindings {

namespace py = pybind11;

void register_detection(py::module_& module);
void register_device(py::module_& module);
void register_model(py::module_& module);
void register_records(py::module_& module);
void register_refinement(py::module_& module);
void register_rotations(py::module_& module);
void register_threads(py::module_& module);
void register_tokens(py::module_& module);

/// "(3, 4)", for messages.
inline std::string shape_text(const py::array& array) {
    std::string text = "(";
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
        text += (i > 0 ? ", " : "") + std::to_string(array.shape(i));
    }
    return text + (array.ndim() == 1 ? ",)" : ")");
}

/// Whether the array's elements are T in native byte order.
template <typename T>
bool holds(const py::array& array) {
    return array.dtype().equal(py::dtype::of<T>());
}

/// The elements of a C-contiguous array of T; a TypeError names the argument otherwise.
template <typename T>
const T* elements(const py::array& array, const char* name) {
    if (!holds<T>(array)) {
        throw py::type_error(std::string(name) + " must have dtype " +
                             py::str(py::dtype::of<T>()).cast<std::string>() + ", got " +
                             py::str(array.dtype()).cast<std::string>());
    }
    if ((array.flags() & py::array::c_style) == 0) {
        throw py::type_error(std::string(name) + " must be C-contiguous");
    }
    return static_cast<const T*>(array.data());
}

/// A ValueError names an array of another shape.
inline void require_shape(const py::array& array, const char* name, const std::vector<py::ssize_t>& shape) {
    if (std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()) != shape) {
        throw py::value_error(std::string(name) + " does not fit the other arguments, got shape " +
                              shape_text(array));
    }
}

/// Tokens of N patterns, padded to one length, without their bins. A ValueError names what does not fit.
inline PaddedDisks padded_disks(const py::array& radius, const py::array& angle, const py::array& intensity,
                                const py::array& count) {
    if (radius.ndim() != 2) {
        throw py::value_error("radius must have shape (N, L), got " + shape_text(radius));
    }
    const py::ssize_t patterns = radius.shape(0);
    const py::ssize_t length = radius.shape(1);
    require_shape(angle, "angle", {patterns, length});
    require_shape(intensity, "intensity", {patterns, length});
    require_shape(count, "count", {patterns});
    const PaddedDisks disks = {elements<float>(radius, "radius"),
                               elements<float>(angle, "angle"),
                               elements<float>(intensity, "intensity"),
                               nullptr,
                               nullptr,
                               nullptr,
                               elements<std::int32_t>(count, "count"),
                               patterns,
                               length};
    for (py::ssize_t i = 0; i < patterns; ++i) {
        if (disks.count[i] < 0 || disks.count[i] > length) {
            throw py::value_error("count must lie between 0 and the length " + std::to_string(length) +
                                  ", got " + std::to_string(disks.count[i]) + " at " + std::to_string(i));
        }
    }
    return disks;
}

/// Ragged peaks of N patterns. A ValueError names what does not fit.
RaggedPeaks checked_peaks(const py::array& qx, const py::array& qy, const py::array& intensity,
                          const py::array& offsets);

/// A pointer that Python holds as an integer (torch.Tensor.data_ptr).
template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

}  // namespace microinfer::bindings
