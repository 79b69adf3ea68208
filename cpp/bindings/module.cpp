#include "registration.hpp"

PYBIND11_MODULE(_core, module) {
    using namespace microinfer::bindings;
    module.doc() = "The C++ core of microinfer on NumPy arrays, and on device pointers for torch.";
    register_detection(module);
    register_device(module);
    register_model(module);
    register_records(module);
    register_refinement(module);
    register_rotations(module);
    register_threads(module);
    register_tokens(module);
}
