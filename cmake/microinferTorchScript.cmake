# microinfer::torchscript, compiled from the sources beside this package against the libtorch of the using project.
#
# Libtorch's files are found here and not through find_package(Torch): of a torch for GPUs that fails without a
# whole CUDA toolkit, of which nothing here needs a part.
find_path(microinfer_TORCH include/torch/csrc/jit/api/module.h
  HINTS ${Torch_DIR}/../../.. ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH PATH_SUFFIXES ../.. NO_CACHE)
foreach(library torch torch_cpu c10)
  find_library(microinfer_${library}_LIBRARY ${library} HINTS ${microinfer_TORCH}/lib NO_CACHE)
endforeach()
if(NOT (microinfer_TORCH AND microinfer_torch_LIBRARY AND microinfer_torch_cpu_LIBRARY AND microinfer_c10_LIBRARY))
  set(microinfer_NOT_FOUND_MESSAGE "microinfer's component torchscript needs libtorch: add it to CMAKE_PREFIX_PATH; \
of a torch that pip installed, python -c 'import torch; print(torch.utils.cmake_prefix_path)' prints the path")
  return()
endif()

# On Linux libtorch brings the shared libstdc++, beside which a program with another standard library crashes.
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set(microinfer_probe ${CMAKE_BINARY_DIR}/CMakeFiles/microinfer-probe)
  file(WRITE ${microinfer_probe}.cpp "#include <iostream>\nint main() { std::cout << 1.0; }\n")
  get_directory_property(microinfer_options LINK_OPTIONS)
  try_compile(microinfer_compiles ${microinfer_probe}-build SOURCES ${microinfer_probe}.cpp
    LINK_OPTIONS ${microinfer_options} COPY_FILE ${microinfer_probe})
  set(microinfer_shared "")
  if(microinfer_compiles)
    file(STRINGS ${microinfer_probe} microinfer_shared REGEX "libstdc\\+\\+\\.so")
  endif()
  if(NOT microinfer_shared)
    set(microinfer_NOT_FOUND_MESSAGE "programs built here do not link the shared libstdc++, and so would crash beside \
libtorch, which does: link without -static-libstdc++, -static and -stdlib=libc++")
    return()
  endif()
endif()

if(NOT TARGET microinfer::torchscript)
  add_library(microinfer_torchscript STATIC ${microinfer_TORCHSCRIPT_SOURCES}/torchscript.cpp)
  add_library(microinfer::torchscript ALIAS microinfer_torchscript)
  target_include_directories(microinfer_torchscript PUBLIC ${microinfer_TORCHSCRIPT_SOURCES}/include)
  target_include_directories(microinfer_torchscript SYSTEM PRIVATE
    ${microinfer_TORCH}/include ${microinfer_TORCH}/include/torch/csrc/api/include)
  target_link_libraries(microinfer_torchscript PUBLIC microinfer::microinfer
    PRIVATE ${microinfer_torch_cpu_LIBRARY} ${microinfer_c10_LIBRARY})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # libtorch brings the part for GPUs, though no symbol asks for it. What that part needs is its own affair.
    target_link_libraries(microinfer_torchscript PRIVATE
      "-Wl,--push-state,--no-as-needed,${microinfer_torch_LIBRARY},--pop-state")
    target_link_options(microinfer_torchscript INTERFACE LINKER:--allow-shlib-undefined)
  else()
    target_link_libraries(microinfer_torchscript PRIVATE ${microinfer_torch_LIBRARY})
  endif()
  set_target_properties(microinfer_torchscript PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF)
endif()
set(microinfer_torchscript_FOUND TRUE)
