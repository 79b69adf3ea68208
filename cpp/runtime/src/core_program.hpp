/// A model that the core runs.
#pragma once

#include "program.hpp"

#include <microinfer/network_arrays.hpp>

#include <memory>
#include <string_view>

namespace microinfer::runtime {

/// Makes a program that runs all patterns of a call at once, on the core's threads; their lengths do not
/// matter. `arrays` is what read_safetensors() takes, `tokens` what the patterns are tokenized by.
///
/// Throws what read_safetensors() and the network's factory throw, and std::runtime_error for tokens that do
/// not fit the network.
std::unique_ptr<Program> core_program(std::string_view arrays, const NetworkSettings& settings,
                                      const TokenSpec& tokens, Numbers numbers);

}  // namespace microinfer::runtime
