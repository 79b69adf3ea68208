/// A model file's metadata, as the mapper needs it.
#pragma once

#include <microinfer/mapper.hpp>
#include <microinfer/network_arrays.hpp>
#include <microinfer/refinement.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace microinfer::runtime {

/// What a refinement needs, and how it ranks candidates (python/microinfer/refinement.py says what it means).
struct RefinementFacts {
    RefinementSpec spec;
    /// Candidates less probable than this, the first one apart, are left as they are.
    double least_probability;
    /// Weight of the disks' log-likelihood beside the model's log-probability.
    double evidence;
    /// By how much, in nats, another candidate must be better to take the first one's place.
    double margin;
    /// Reciprocal lattice vectors in the crystal's frame (1/Angstrom) and |F|, (reflections, 4).
    std::vector<double> vectors;
    /// First reflection of each phase, (phases + 1,).
    std::vector<std::int64_t> offsets;
};

/// What the metadata says.
struct ModelFacts {
    ModelInfo info;
    /// Instructions that compiled code needs, as torch names them, e.g. "AVX2".
    std::string processor;
    /// Slope and offset that take a probability's log-odds to those of being right.
    double slope, offset;
    /// Empty where the model states no voltage or a phase has no reflections.
    std::optional<RefinementFacts> refinement;
    /// What the core needs beside the arrays; empty where only the file's graph can run.
    std::optional<NetworkSettings> core;
};

/// Reads the metadata's JSON. Throws std::runtime_error, which says what is missing.
ModelFacts parse_metadata(const std::string& json);

}  // namespace microinfer::runtime
