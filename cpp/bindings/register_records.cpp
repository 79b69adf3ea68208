#include "registration.hpp"

#include <microinfer/records.hpp>

#include <pybind11/stl.h>

#include <vector>

namespace microinfer::bindings {

namespace {

static_assert(sizeof(VariableLengthRecord) == 2 * sizeof(std::uint64_t), "records are pairs of 64-bit words");

py::tuple gather_records(const py::array& records, std::size_t item_size,
                         const std::vector<std::size_t>& positions) {
    const auto* pairs = elements<std::uint64_t>(records, "records");
    if (records.ndim() != 2 || records.shape(1) != 2) {
        throw py::value_error("records must have the shape (N, 2), got " + shape_text(records));
    }
    for (const std::size_t position : positions) {
        if (item_size < sizeof(double) || position > item_size - sizeof(double)) {
            throw py::value_error("positions must leave room for a double in an item of " +
                                  std::to_string(item_size) + " bytes, got " + std::to_string(position));
        }
    }
    const auto count = static_cast<std::int64_t>(records.shape(0));
    std::vector<VariableLengthRecord> view(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < view.size(); ++i) {
        view[i] = {static_cast<std::size_t>(pairs[2 * i]), pointer<const std::byte>(pairs[2 * i + 1])};
    }
    py::array_t<std::int64_t> offsets(count + 1);
    record_offsets(view.data(), count, offsets.mutable_data());
    const py::ssize_t items = offsets.at(count);
    py::array_t<double> columns({static_cast<py::ssize_t>(positions.size()), items});
    double* const first = columns.mutable_data();
    {
        // The GIL is released: the loop touches only the records and an array that nobody else knows yet.
        const py::gil_scoped_release release;
        for (std::size_t column = 0; column < positions.size(); ++column) {
            gather_column(view.data(), count, item_size, positions[column],
                          first + static_cast<py::ssize_t>(column) * items);
        }
    }
    return py::make_tuple(std::move(offsets), std::move(columns));
}

}  // namespace

void register_records(py::module_& module) {
    module.def(
        "gather_records", &gather_records, py::arg("records"), py::arg("item_size"), py::arg("positions"),
        "Offsets (N + 1,) and float64 columns (len(positions), P) of HDF5's variable-length records, given "
        "as (length, address) pairs (N, 2) of uint64.");
}

}  // namespace microinfer::bindings
