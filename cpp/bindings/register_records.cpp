#include "registration.hpp"

#include <microinfer/records.hpp>

#include <vector>

namespace microinfer::bindings {

namespace {

py::tuple lists(int descriptor, std::uint64_t base, std::uint64_t file_bytes, const py::array& references,
                std::size_t item_bytes) {
    const auto* bytes = elements<std::uint8_t>(references, "references");
    if (references.ndim() != 2 || references.shape(1) != kReferenceBytes) {
        throw py::value_error("references must have the shape (N, 16), got " + shape_text(references));
    }
    if (item_bytes < 1) {
        throw py::value_error("item_bytes must be at least 1, got 0");
    }
    const auto count = static_cast<std::int64_t>(references.shape(0));
    std::vector<HeapReference> view(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < view.size(); ++i) {
        view[i] = heap_reference(bytes + i * kReferenceBytes);
    }
    py::array_t<std::int64_t> offsets(count + 1);
    list_offsets(view.data(), count, item_bytes, file_bytes, offsets.mutable_data());
    py::array_t<std::uint8_t> items(offsets.at(count) * static_cast<py::ssize_t>(item_bytes));
    {
        const std::int64_t* const first = offsets.data();
        std::uint8_t* const out = items.mutable_data();
        // The GIL is released: the loop touches only the file and arrays that nobody else knows yet.
        const py::gil_scoped_release release;
        read_lists(descriptor, base, view.data(), count, item_bytes, first, out);
    }
    return py::make_tuple(std::move(offsets), std::move(items));
}

}  // namespace

void register_records(py::module_& module) {
    py::register_exception<DamagedFile>(module, "DamagedFileError", PyExc_OSError);
    module.def(
        "read_lists", &lists, py::arg("descriptor"), py::arg("base"), py::arg("file_bytes"),
        py::arg("references"), py::arg("item_bytes"),
        "Offsets (N + 1,) and the bytes of all items of an HDF5 file's variable-length lists, given as the "
        "references (N, 16) of uint8 that stand in the file, whose addresses count from `base` on. Raises "
        "DamagedFileError where the file does not hold them.");
    module.def("require_collection", &require_collection, py::arg("descriptor"), py::arg("place"),
               "Raise DamagedFileError unless a whole heap collection stands at a place of an HDF5 file.");
}

}  // namespace microinfer::bindings
