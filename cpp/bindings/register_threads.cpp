#include "registration.hpp"

#include <microinfer/thread_pool.hpp>

namespace microinfer::bindings {

void register_threads(py::module_& module) {
    module.def("num_threads", &num_threads, "Threads that the core's loops use.");
    // The GIL is released: joining idle workers, which never touch Python.
    module.def("set_num_threads", &set_num_threads, py::arg("count"),
               py::call_guard<py::gil_scoped_release>(), "Set the number of threads of the core's loops.");
}

}  // namespace microinfer::bindings
