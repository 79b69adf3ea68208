#include "registration.hpp"

namespace microinfer::bindings {

void register_device(py::module_& module) {
    module.def("cuda_is_built", &cuda::is_built, "Whether the extension was built with CUDA.");
}

}  // namespace microinfer::bindings
