/// A model in the core: the one way from Bragg peaks to ranked answers, for Python on a CPU and for C++.
#pragma once

#include <microinfer/disks.hpp>
#include <microinfer/matrix3.hpp>
#include <microinfer/tokenizer.hpp>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

namespace microinfer {

/// A model file that cannot be used. The message names the file, the reason and what to do.
class FileError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// A crystal phase that a model knows.
struct Phase {
    /// Name, e.g. "Cu".
    std::string name;
    /// Hermann-Mauguin symbol of the space group, e.g. "Fm-3m"; empty where unknown.
    std::string space_group;
    /// Point group, e.g. "m-3m".
    std::string point_group;
    /// Edges a, b, c in Angstrom, then the angles alpha, beta, gamma in degrees.
    std::array<double, 6> lattice;
    /// Proper rotations under which two orientations count as the same, in the crystal's Cartesian frame (a
    /// along x, b in the xy plane). They act on an orientation from the left.
    std::vector<Matrix3<double>> operators;
    /// Reflections: h, k, l and the kinematic structure-factor amplitude.
    std::vector<std::array<double, 4>> reflections;
};

/// What a checkpoint says of its model.
struct ModelInfo {
    /// Name of the model, e.g. "cu".
    std::string name;
    /// "posterior", or "reference" for the paper's.
    std::string kind;
    /// Accelerating voltage of the patterns it was trained on, V; 0 where unknown.
    double voltage;
    /// Largest scattering vector it was trained on, 1/Angstrom.
    double k_max;
    /// Ranges and limits of the disks it looks at.
    TokenSpec tokens;
    /// The phases, in the order of Candidate::phase.
    std::vector<Phase> phases;
    /// a, b, c of beta calibration: an answer of probability p is right with the log-odds
    /// a ln p - b ln(1 - p) + c.
    std::array<double, 3> calibration;
};

/// Reads a checkpoint's JSON header, which graphs carry too. Throws std::invalid_argument, which names what
/// is missing or out of range.
ModelInfo model_info(const std::string& header);

/// One of the ranked answers to a pattern.
struct Candidate {
    /// Rotation matrix M with v_crystal = M v_lab, py4DSTEM's convention: its columns are the lab axes (x
    /// along qx, y along qy, z along the beam) in the crystal's Cartesian frame, the third one the zone axis.
    /// NaN where there is no candidate.
    Matrix3<float> matrix;
    /// Probability that phase and orientation (to 3 degrees) are right, in [0, 1]; 0 where there is none.
    float probability;
    /// Correlation of the measured disks with the reflections that the candidate predicts, in [0, 1]; NaN
    /// where there is none, or it was not refined.
    float score;
    /// Index into ModelInfo::phases; -1 where there is none.
    std::int16_t phase;
};

/// Where the answers to some patterns go. Not owning.
struct Answers {
    /// The ranked candidates, the best first, (patterns, Model::candidates()).
    Candidate* candidates;
    /// Whether there is an answer, (patterns,): enough disks, no NaN among the peaks, and a crystal.
    bool* valid;
    /// Disks that were looked at, (patterns,).
    std::int32_t* disks;
};

/// How patterns are answered.
struct AnswerOptions {
    /// Polish the candidates against the measured disks and rank them again. It needs a model that states its
    /// voltage, and phases with reflections.
    bool refine = true;
    /// Patterns with fewer disks have no answer; 0 stands for the model's own limit.
    std::int32_t min_disks = 0;
    /// Which patterns to answer, (patterns,); all where null.
    const bool* selected = nullptr;
};

/// Candidates of patterns that another engine's network has found, the most probable first. Not owning.
struct FoundCandidates {
    /// Orientations, (patterns, candidates, 3, 3).
    const float* matrix;
    /// Phases, (patterns, candidates).
    const std::int64_t* phase;
    /// Probabilities, (patterns, candidates).
    const float* probability;
};

/// An array in C order. Not owning.
struct ArrayView {
    std::variant<const float*, const std::int64_t*> elements;
    std::vector<std::int64_t> shape;
};

/// Arrays by name.
using NamedArrays = std::map<std::string, ArrayView>;

/// The checksum that a checkpoint states as "crc32", a decimal number: of the header, then of each array by
/// name the name, the shape as 64-bit numbers, and the elements.
std::string checksum(const std::string& header, const NamedArrays& arrays);

/// How a network computes.
struct NetworkOptions {
    /// Multiply bfloat16 numbers; products are summed, and all else is computed, in float32.
    bool bfloat16 = false;
    /// One of instruction_sets(), or "auto" for the fastest.
    std::string instructions = "auto";
};

/// The instruction sets that this machine has of those that the loops are compiled for, the fastest last.
std::vector<std::string> instruction_sets();

/// Whether the fastest of them multiplies bfloat16.
bool multiplies_bfloat16();

/// Whether networks are faster for it. On AMD's processors they are; Intel's take four times as long for such
/// an instruction as for one of float32, but for their matrix units, which the loops do not use.
bool gains_by_bfloat16();

/// A model, ready to answer. All functions may be called from several threads at once.
class Model {
  public:
    /// Makes a model of a checkpoint's JSON header and arrays, copying what it needs of them.
    ///
    /// Throws std::invalid_argument, which names the entry, for a header or arrays that do not fit, and for
    /// instruction sets that this machine lacks or that do not multiply bfloat16.
    Model(const std::string& header, const NamedArrays& arrays, const NetworkOptions& options = {});
    ~Model();
    Model(Model&&) noexcept;
    Model& operator=(Model&&) noexcept;

    [[nodiscard]] const ModelInfo& info() const;

    /// Candidates of each pattern.
    [[nodiscard]] std::int64_t candidates() const;

    /// Whether answers can be refined.
    [[nodiscard]] bool can_refine() const;

    /// Answers patterns: tokenizes them, finds their candidates, refines, ranks and calibrates. An answer
    /// depends on its own pattern alone. Throws std::invalid_argument for offsets that do not rise from 0 to
    /// the number of peaks, and where `options` ask for a refinement that the model has no data for.
    void answer(const RaggedPeaks& peaks, const AnswerOptions& options, const Answers& to) const;

    /// The last steps of answer(), for candidates that another engine's network has found: refines, ranks and
    /// calibrates. All patterns have an answer; `Answers::valid` and `Answers::disks` are not written.
    void rank(const PaddedDisks& disks, const FoundCandidates& found, bool refine, const Answers& to) const;

  private:
    class Implementation;
    std::unique_ptr<const Implementation> implementation_;
};

/// Reads a checkpoint, a .safetensors file. Throws FileError for one that is missing, damaged, foreign or of
/// another version.
Model read_model(const std::string& path, const NetworkOptions& options = {});

}  // namespace microinfer
