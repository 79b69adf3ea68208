#include "registration.hpp"

#include <string>

namespace microinfer::bindings {
namespace {

/// The elements of a (size, 3, 3) array of T; size < 0 stands for any.
template <typename T>
const T* matrices(const py::array& array, const char* name, py::ssize_t size) {
    const T* const data = elements<T>(array, name);
    if (array.ndim() != 3 || array.shape(1) != 3 || array.shape(2) != 3 ||
        (size >= 0 && array.shape(0) != size)) {
        const std::string first = size >= 0 ? std::to_string(size) : "n";
        throw py::value_error(std::string(name) + " must have shape (" + first + ", 3, 3), got " +
                              shape_text(array));
    }
    return data;
}

/// The elements of a (size,) array of T.
template <typename T>
const T* vector(const py::array& array, const char* name, py::ssize_t size) {
    const T* const data = elements<T>(array, name);
    if (array.ndim() != 1 || array.size() != size) {
        throw py::value_error(std::string(name) + " must have shape (" + std::to_string(size) + ",), got " +
                              shape_text(array));
    }
    return data;
}

template <typename T>
OrientationPairs<T> checked_pairs(const py::array& predicted, const py::array& label,
                                  const py::array& operators) {
    const T* const first = matrices<T>(predicted, "predicted", -1);
    const OrientationPairs<T> pairs = {first, matrices<T>(label, "label", predicted.shape(0)),
                                       matrices<T>(operators, "operators", -1), predicted.shape(0),
                                       operators.shape(0)};
    if (pairs.operator_count < 1) {
        throw py::value_error("operators must hold at least one operator, got shape " +
                              shape_text(operators));
    }
    return pairs;
}

/// Calls `call` with a T of the array's dtype, float32 or float64.
template <typename Call>
auto by_dtype(const py::array& array, const char* name, const Call& call) {
    if (holds<float>(array)) {
        return call(float{});
    }
    if (holds<double>(array)) {
        return call(double{});
    }
    throw py::type_error(std::string(name) + " must have dtype float32 or float64, got " +
                         py::str(array.dtype()).cast<std::string>());
}

py::tuple symmetry_min_geodesic_of(const py::array& predicted, const py::array& label,
                                   const py::array& operators) {
    return by_dtype(predicted, "predicted", [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const OrientationPairs<T> pairs = checked_pairs<T>(predicted, label, operators);
        py::array_t<T> angle(pairs.batch_size);
        py::array_t<std::int64_t> index(pairs.batch_size);
        T* const angle_data = angle.mutable_data();
        std::int64_t* const index_data = index.mutable_data();
        {
            const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
            symmetry_min_geodesic(pairs, angle_data, index_data);
        }
        return py::make_tuple(angle, index);
    });
}

py::tuple symmetry_min_geodesic_backward_of(const py::array& predicted, const py::array& label,
                                            const py::array& operators, const py::array& index,
                                            const py::array& upstream) {
    return by_dtype(predicted, "predicted", [&](auto zero) -> py::tuple {
        using T = decltype(zero);
        const OrientationPairs<T> pairs = checked_pairs<T>(predicted, label, operators);
        const std::int64_t* const nearest = vector<std::int64_t>(index, "index", pairs.batch_size);
        for (std::int64_t i = 0; i < pairs.batch_size; ++i) {
            if (nearest[i] < 0 || nearest[i] >= pairs.operator_count) {
                throw py::value_error("index must be at least 0 and below the number of operators, " +
                                      std::to_string(pairs.operator_count) + ", got " +
                                      std::to_string(nearest[i]) + " at " + std::to_string(i));
            }
        }
        const T* const weight = vector<T>(upstream, "upstream", pairs.batch_size);
        py::array_t<T> by_predicted({pairs.batch_size, std::int64_t{3}, std::int64_t{3}});
        py::array_t<T> by_label({pairs.batch_size, std::int64_t{3}, std::int64_t{3}});
        T* const predicted_data = by_predicted.mutable_data();
        T* const label_data = by_label.mutable_data();
        {
            const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
            symmetry_min_geodesic_backward(pairs, nearest, weight, predicted_data, label_data);
        }
        return py::make_tuple(by_predicted, by_label);
    });
}

py::array project_to_so3_of(const py::array& matrix) {
    return by_dtype(matrix, "matrix", [&](auto zero) -> py::array {
        using T = decltype(zero);
        const T* const data = matrices<T>(matrix, "matrix", -1);
        const std::int64_t batch_size = matrix.shape(0);
        py::array_t<T> rotation({batch_size, std::int64_t{3}, std::int64_t{3}});
        T* const rotation_data = rotation.mutable_data();
        {
            const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
            project_to_so3(data, batch_size, rotation_data);
        }
        return rotation;
    });
}

py::array project_to_so3_backward_of(const py::array& matrix, const py::array& rotation,
                                     const py::array& upstream) {
    return by_dtype(matrix, "matrix", [&](auto zero) -> py::array {
        using T = decltype(zero);
        const T* const data = matrices<T>(matrix, "matrix", -1);
        const std::int64_t batch_size = matrix.shape(0);
        const T* const rotation_data = matrices<T>(rotation, "rotation", batch_size);
        const T* const upstream_data = matrices<T>(upstream, "upstream", batch_size);
        py::array_t<T> gradient({batch_size, std::int64_t{3}, std::int64_t{3}});
        T* const gradient_data = gradient.mutable_data();
        {
            const py::gil_scoped_release release;  // safe: only plain memory that the arrays keep alive
            project_to_so3_backward(data, rotation_data, upstream_data, batch_size, gradient_data);
        }
        return gradient;
    });
}

/// Calls `call` with a double or a float.
template <typename Call>
void by_precision(bool is_double, const Call& call) {
    if (is_double) {
        call(double{});
    } else {
        call(float{});
    }
}

template <typename T>
OrientationPairs<T> device_pairs(std::uintptr_t predicted, std::uintptr_t label, std::uintptr_t operators,
                                 std::int64_t batch_size, std::int64_t operator_count) {
    return {pointer<T>(predicted), pointer<T>(label), pointer<T>(operators), batch_size, operator_count};
}

void symmetry_min_geodesic_cuda(bool is_double, std::uintptr_t predicted, std::uintptr_t label,
                                std::uintptr_t operators, std::int64_t batch_size,
                                std::int64_t operator_count, std::uintptr_t angle, std::uintptr_t index,
                                int device, std::uintptr_t stream) {
    by_precision(is_double, [&](auto zero) {
        using T = decltype(zero);
        cuda::symmetry_min_geodesic(device_pairs<T>(predicted, label, operators, batch_size, operator_count),
                                    pointer<T>(angle), pointer<std::int64_t>(index), {device, stream});
    });
}

void symmetry_min_geodesic_backward_cuda(bool is_double, std::uintptr_t predicted, std::uintptr_t label,
                                         std::uintptr_t operators, std::int64_t batch_size,
                                         std::int64_t operator_count, std::uintptr_t index,
                                         std::uintptr_t upstream, std::uintptr_t predicted_gradient,
                                         std::uintptr_t label_gradient, int device, std::uintptr_t stream) {
    by_precision(is_double, [&](auto zero) {
        using T = decltype(zero);
        cuda::symmetry_min_geodesic_backward(
            device_pairs<T>(predicted, label, operators, batch_size, operator_count),
            pointer<std::int64_t>(index), pointer<T>(upstream), pointer<T>(predicted_gradient),
            pointer<T>(label_gradient), {device, stream});
    });
}

void project_to_so3_cuda(bool is_double, std::uintptr_t matrix, std::int64_t batch_size,
                         std::uintptr_t rotation, int device, std::uintptr_t stream) {
    by_precision(is_double, [&](auto zero) {
        using T = decltype(zero);
        cuda::project_to_so3(pointer<T>(matrix), batch_size, pointer<T>(rotation), {device, stream});
    });
}

void project_to_so3_backward_cuda(bool is_double, std::uintptr_t matrix, std::uintptr_t rotation,
                                  std::uintptr_t upstream, std::int64_t batch_size, std::uintptr_t gradient,
                                  int device, std::uintptr_t stream) {
    by_precision(is_double, [&](auto zero) {
        using T = decltype(zero);
        cuda::project_to_so3_backward(pointer<T>(matrix), pointer<T>(rotation), pointer<T>(upstream),
                                      batch_size, pointer<T>(gradient), {device, stream});
    });
}

}  // namespace

void register_rotations(py::module_& module) {
    module.def(
        "symmetry_min_geodesic", &symmetry_min_geodesic_of, py::arg("predicted"), py::arg("label"),
        py::arg("operators"),
        "Smallest angle between predicted (B, 3, 3) and operators (G, 3, 3) @ label (B, 3, 3), in radians, "
        "and the index of its operator, (B,) each.");
    module.def("symmetry_min_geodesic_backward", &symmetry_min_geodesic_backward_of, py::arg("predicted"),
               py::arg("label"), py::arg("operators"), py::arg("index"), py::arg("upstream"),
               "Gradients of sum(upstream * angle) with respect to predicted and label, (B, 3, 3) each.");
    module.def("project_to_so3", &project_to_so3_of, py::arg("matrix"),
               "Rotation nearest to each matrix, (B, 3, 3).");
    module.def("project_to_so3_backward", &project_to_so3_backward_of, py::arg("matrix"), py::arg("rotation"),
               py::arg("upstream"), "Gradient with respect to matrix, (B, 3, 3).");
    // The GIL is released: these only enqueue kernels on device memory that the caller keeps alive.
    const py::call_guard<py::gil_scoped_release> release;
    module.def("symmetry_min_geodesic_cuda", &symmetry_min_geodesic_cuda, release);
    module.def("symmetry_min_geodesic_backward_cuda", &symmetry_min_geodesic_backward_cuda, release);
    module.def("project_to_so3_cuda", &project_to_so3_cuda, release);
    module.def("project_to_so3_backward_cuda", &project_to_so3_backward_cuda, release);
}

}  // namespace microinfer::bindings
