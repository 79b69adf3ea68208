# microinfer::runtime, compiled from the sources beside this package against the libtorch of the using project.
#
# Libtorch's files are found here and not through find_package(Torch): of a torch for GPUs that fails without a
# whole CUDA toolkit, of which nothing here needs a part.
set(microinfer_runtime_FOUND FALSE)
find_path(Torch_DIR TorchConfig.cmake
  HINTS ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH PATHS /usr /usr/local
  PATH_SUFFIXES Torch share/cmake/Torch)
get_filename_component(microinfer_TORCH "${Torch_DIR}/../../.." ABSOLUTE)
find_path(microinfer_TORCH_INCLUDE torch/csrc/inductor/aoti_package/model_package_loader.h
  HINTS ${microinfer_TORCH}/include NO_CACHE)
foreach(library torch torch_cpu c10)
  find_library(microinfer_${library}_LIBRARY ${library} HINTS ${microinfer_TORCH}/lib NO_CACHE)
endforeach()
if(NOT (Torch_DIR AND microinfer_TORCH_INCLUDE
        AND microinfer_torch_LIBRARY AND microinfer_torch_cpu_LIBRARY AND microinfer_c10_LIBRARY))
  set(microinfer_NOT_FOUND_MESSAGE "microinfer's runtime needs libtorch: add it to \
CMAKE_PREFIX_PATH; of a torch that pip installed, python -c 'import torch; print(torch.utils.cmake_prefix_path)' \
prints the path")
  return()
endif()
file(STRINGS "${Torch_DIR}/TorchConfig.cmake" microinfer_old_abi REGEX "_GLIBCXX_USE_CXX11_ABI=0")
if(microinfer_old_abi)
  set(microinfer_NOT_FOUND_MESSAGE "the libtorch in ${microinfer_TORCH} is built for the old C++ ABI, and \
microinfer for the new one: take a newer torch")
  return()
endif()

# On Linux libtorch brings the shared libstdc++, beside which a program with another standard library crashes.
function(microinfer_find_private_library found)
  set(probe ${CMAKE_BINARY_DIR}/CMakeFiles/microinfer-probe)
  file(WRITE ${probe}.cpp "#include <iostream>\nint main() { std::cout << 1.0; }\n")
  get_directory_property(options LINK_OPTIONS)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE EXECUTABLE)
  try_compile(compiles ${probe}-build SOURCES ${probe}.cpp LINK_OPTIONS ${options} COPY_FILE ${probe})
  set(shared "unknown")
  if(compiles)
    file(STRINGS ${probe} shared REGEX "libstdc\\+\\+\\.so")
  endif()
  if(NOT shared)
    set(${found} TRUE PARENT_SCOPE)
  endif()
endfunction()
set(microinfer_private_library FALSE)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  microinfer_find_private_library(microinfer_private_library)
endif()
if(microinfer_private_library)
  set(microinfer_NOT_FOUND_MESSAGE "programs built here do not link the shared libstdc++, and so would crash beside \
libtorch, which does: link without -static-libstdc++, -static and -stdlib=libc++")
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
  target_link_libraries(microinfer_runtime PUBLIC microinfer::core
    PRIVATE ${microinfer_torch_cpu_LIBRARY} ${microinfer_c10_LIBRARY})
  target_include_directories(microinfer_runtime SYSTEM
    PRIVATE ${microinfer_TORCH_INCLUDE} ${microinfer_TORCH_INCLUDE}/torch/csrc/api/include)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # libtorch brings the part for GPUs, though no symbol asks for it. What that part needs is its own affair.
    target_link_libraries(microinfer_runtime PRIVATE
      "-Wl,--push-state,--no-as-needed,${microinfer_torch_LIBRARY},--pop-state")
    target_link_options(microinfer_runtime INTERFACE LINKER:--allow-shlib-undefined)
  else()
    target_link_libraries(microinfer_runtime PRIVATE ${microinfer_torch_LIBRARY})
  endif()
  set_target_properties(microinfer_runtime PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF)
endif()
set(microinfer_runtime_FOUND TRUE)
