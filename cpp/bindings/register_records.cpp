#include "registration.hpp"

#include <microinfer/records.hpp>

#include <vector>

namespace microinfer::bindings {

namespace {

static_assert(sizeof(VariableLengthRecord) == 2 * sizeof(std::uint64_t), "records are pairs of 64-bit words");

py::tuple gather(const py::array& records, std::int64_t width) {
    const auto* pairs = elements<std::uint64_t>(records, "records");
    if (records.ndim() != 2 || records.shape(1) != 2) {
        throw py::value_error("records must have the shape (N, 2), got " + shape_text(records));
    }
    if (width < 1) {
        throw py::value_error("width must be at least 1, got " + std::to_string(width));
    }
    const auto count = static_cast<std::int64_t>(records.shape(0));
    std::vector<VariableLengthRecord> view(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < view.size(); ++i) {
        view[i] = {static_cast<std::size_t>(pairs[2 * i]), pointer<const double>(pairs[2 * i + 1])};
    }
    py::array_t<std::int64_t> offsets(count + 1);
    record_offsets(view.data(), count, offsets.mutable_data());
    py::array_t<double> columns({width, offsets.at(count)});
    {
        const std::int64_t* const first = offsets.data();
        double* const out = columns.mutable_data();
        // The GIL is released: the loop touches only the records and arrays that nobody else knows yet.
        const py::gil_scoped_release release;
        gather_records(view.data(), count, width, first, out);
    }
    return py::make_tuple(std::move(offsets), std::move(columns));
}

}  // namespace

void register_records(py::module_& module) {
    module.def("gather_records", &gather, py::arg("records"), py::arg("width"),
               "Offsets (N + 1,) and float64 columns (width, P) of HDF5's variable-length records, given as "
               "(length, "
               "address) pairs (N, 2) of uint64; every item is width doubles.");
}

}  // namespace microinfer::bindings
