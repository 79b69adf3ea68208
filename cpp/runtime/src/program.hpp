/// The exported model behind one interface, whatever its format.
#pragma once

#include "model_file.hpp"

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace microinfer::runtime {

/// Ranked candidates of some patterns, the most probable first.
struct CandidateArrays {
    /// Candidates of each pattern.
    std::int64_t candidates;
    /// Orientations, (patterns, candidates, 3, 3).
    std::vector<float> matrix;
    /// Phases, (patterns, candidates).
    std::vector<std::int64_t> phase;
    /// Probabilities, (patterns, candidates).
    std::vector<float> probability;
    /// 1 where there is an answer, (patterns,).
    std::vector<std::uint8_t> valid;
};

/// A loaded model. May be called from several threads at once.
class Program {
  public:
    virtual ~Program() = default;

    /// Candidates of padded patterns: `peaks` (patterns, length, 3) qx and qy in 1/Angstrom and intensity,
    /// `count` (patterns,).
    [[nodiscard]] virtual CandidateArrays candidates(std::vector<float>& peaks,
                                                     std::vector<std::int64_t>& count,
                                                     std::int64_t length) const = 0;
};

/// The metadata in a verified file, JSON.
std::string read_metadata(const std::string& path);

/// Loads a verified file. Throws FileError for a format that C++ cannot run, and for a device or processor
/// that is not there.
std::unique_ptr<Program> load_program(const std::string& path, const std::string& format,
                                      const ModelFacts& facts);

/// An error's message without torch's list of stack frames.
std::string short_message(const std::exception& error);

}  // namespace microinfer::runtime
