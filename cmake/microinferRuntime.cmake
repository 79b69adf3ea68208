# microinfer::runtime, compiled from the sources beside this package against the libtorch of the using project.
find_package(Torch QUIET)
if(NOT TARGET torch)
  set(microinfer_runtime_FOUND FALSE)
  set(microinfer_NOT_FOUND_MESSAGE "microinfer's runtime needs libtorch: add it to CMAKE_PREFIX_PATH; of a \
torch that pip installed, python -c 'import torch; print(torch.utils.cmake_prefix_path)' prints the path")
  return()
endif()

if(NOT TARGET microinfer::runtime)
  add_library(microinfer_runtime STATIC
    ${microinfer_RUNTIME_SOURCES}/archive.cpp
    ${microinfer_RUNTIME_SOURCES}/batches.cpp
    ${microinfer_RUNTIME_SOURCES}/core_program.cpp
    ${microinfer_RUNTIME_SOURCES}/disks.cpp
    ${microinfer_RUNTIME_SOURCES}/json.cpp
    ${microinfer_RUNTIME_SOURCES}/mapper.cpp
    ${microinfer_RUNTIME_SOURCES}/model_file.cpp
    ${microinfer_RUNTIME_SOURCES}/peak_list.cpp
    ${microinfer_RUNTIME_SOURCES}/ranking.cpp
    ${microinfer_RUNTIME_SOURCES}/row_queue.cpp
    ${microinfer_RUNTIME_SOURCES}/safetensors.cpp
    ${microinfer_RUNTIME_SOURCES}/sealed_file.cpp
    ${microinfer_RUNTIME_SOURCES}/sha256.cpp
    ${microinfer_RUNTIME_SOURCES}/torch_program.cpp)
  add_library(microinfer::runtime ALIAS microinfer_runtime)
  target_link_libraries(microinfer_runtime PUBLIC microinfer::core PRIVATE ${TORCH_LIBRARIES})
  separate_arguments(microinfer_torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
  target_compile_options(microinfer_runtime PRIVATE ${microinfer_torch_flags})
  set_target_properties(microinfer_runtime PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF)
endif()
set(microinfer_runtime_FOUND TRUE)
