/// The checkpoint, a .safetensors file: its JSON header and its arrays.
#pragma once

#include "../network/network.hpp"

#include <microinfer/model.hpp>

#include <string>
#include <string_view>

namespace microinfer::mapper {

/// What a checkpoint's header says.
struct Header {
    ModelInfo info;
    networks::NetworkConfig network;
};

/// Reads the JSON that Python writes (microinfer.models.checkpoint). Throws std::invalid_argument, which
/// names the entry.
Header parse_header(const std::string& json);

}  // namespace microinfer::mapper
