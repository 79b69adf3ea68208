/// What the topics of the extension register, and the checks of arguments that they share.
#pragma once

#include <microinfer/cuda.hpp>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace microinfer::bindings {

namespace py = pybind11;

void register_device(py::module_& module);
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

/// A pointer that Python holds as an integer (torch.Tensor.data_ptr).
template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

}  // namespace microinfer::bindings
