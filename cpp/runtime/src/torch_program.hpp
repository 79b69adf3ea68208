/// The graph of an exported file, run by libtorch.
#pragma once

#include "model_file.hpp"
#include "program.hpp"

#include <exception>
#include <memory>
#include <string>

namespace microinfer::runtime {

/// Loads a verified file's graph. Throws FileError for a format whose graphs C++ cannot run, and for a device
/// or processor that is not there.
std::unique_ptr<Program> load_graph(const std::string& path, const std::string& format,
                                    const ModelFacts& facts);

/// An error's message without torch's list of stack frames.
std::string short_message(const std::exception& error);

}  // namespace microinfer::runtime
