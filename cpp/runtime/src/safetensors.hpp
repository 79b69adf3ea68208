/// Reading arrays in the safetensors format (https://github.com/huggingface/safetensors).
#pragma once

#include <microinfer/network_arrays.hpp>

#include <string_view>

namespace microinfer::runtime {

/// The arrays of a text that is a whole file: the length of its header, its header in JSON, its elements.
/// They are float32 or int64, and look into `bytes`, which begins at a multiple of 8 bytes in memory. Throws
/// std::runtime_error, which names the array and what is wrong with it.
NamedArrays read_safetensors(std::string_view bytes);

}  // namespace microinfer::runtime
