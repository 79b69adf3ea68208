/// Orientations and phases of Bragg peaks in a C++ program: an exported model.
///
/// Write the model with `microinfer export cu --format torchscript --out cu.ts`, link `microinfer::runtime`,
/// and:
///
///     microinfer::Mapper mapper("cu.ts");
///     microinfer::PeakList row;
///     row.add(peaks_of_first_position);               // std::vector<microinfer::Peak>, 1/Angstrom
///     row.add(peaks_of_second_position);
///     auto waiting = mapper.submit(std::move(row));   // returns at once; scan the next row meanwhile
///     for (const microinfer::Answer& answer : waiting.get()) { ... }
///
/// Peaks are in 1/Angstrom from the direct beam, qx down the detector's image and qy to its right
/// (microinfer::Peak in microinfer/token_math.hpp). Answers are in the frame of the peaks: that of the
/// detector, unless the program turned them into the scan's, as Python does with a calibrated rotation.
///
/// The functions are in microinfer::runtime, which `find_package(microinfer COMPONENTS runtime)` compiles; a
/// program that links microinfer::core alone lacks them ("undefined reference").
///
/// This header includes neither torch nor Python. Versions follow semver.org: within a major version (within
/// a minor one while the major is 0) programs compile and run on.
#pragma once

#include <microinfer/matrix3.hpp>
#include <microinfer/tokenizer.hpp>
#include <microinfer/version.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
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
};

/// What a model file says of itself.
struct ModelInfo {
    /// Name of the model, e.g. "cu".
    std::string name;
    /// "torchscript", "pt2" or "aoti".
    std::string format;
    /// Where the file runs: "cpu" or "cuda".
    std::string device;
    /// Type of the network's matrix products: "float32" or "bfloat16". The core multiplies float32 on a
    /// processor that has no instructions for bfloat16, and then says so here.
    std::string dtype;
    /// What runs the network: "core", or "graph" for the file's graph in torch.
    std::string engine;
    /// Version of microinfer that wrote the file.
    std::string version;
    /// Accelerating voltage of the patterns it was trained on, V; 0 where unknown.
    double voltage;
    /// Largest scattering vector it was trained on, 1/Angstrom.
    double k_max;
    /// Ranges and limits of the disks it looks at.
    TokenSpec tokens;
    /// The phases, in the order of Answer::phase.
    std::vector<Phase> phases;
};

/// The answer at one scan position.
struct Answer {
    /// Rotation matrix M with v_crystal = M v_lab, py4DSTEM's convention: its columns are the lab axes (x
    /// along qx, y along qy, z along the beam) in the crystal's Cartesian frame, the third one the zone axis.
    /// NaN where invalid.
    Matrix3<float> matrix;
    /// Index into ModelInfo::phases; -1 where invalid.
    std::int32_t phase;
    /// Probability that phase and orientation (to 3 degrees) are right, in [0, 1]; 0 where invalid.
    float confidence;
    /// Correlation of the measured disks with the reflections that the answer predicts, in [0, 1]; NaN where
    /// invalid or not refined.
    float score;
    /// Whether there is an answer: enough disks, no NaN among the peaks, a crystal, and a rotation that the
    /// network's output determines (the paper's model may leave it open).
    bool valid;
};

/// The Bragg peaks of some scan positions, one after the other. Owns its memory. A list that was moved from
/// is empty and may be filled anew.
class PeakList {
  public:
    /// Adds the next scan position; it may have no peaks. The direct beam may be among them: the model leaves
    /// it out.
    void add(const std::vector<Peak>& peaks);

    /// Number of scan positions.
    [[nodiscard]] std::size_t size() const { return offsets_.empty() ? 0 : offsets_.size() - 1; }

    /// The peaks as the core's functions take them, as long as this list lives and is not changed.
    [[nodiscard]] RaggedPeaks view() const;

  private:
    std::vector<float> qx_, qy_, intensity_;
    std::vector<std::int64_t> offsets_;  // empty before the first position, and of a list that was moved from
};

/// How a Mapper works.
struct MapperOptions {
    /// Polish the answers against the measured disks and rank them again (as Python's refine="kinematic"). It
    /// needs a model that states its voltage, and phases with reflections.
    bool refine = true;
    /// Rows that may wait for submit()'s thread; a further submit() waits until there is room.
    std::size_t queue = 16;
    /// Run the file's graph in torch even where the core can run the model, which is several times faster.
    bool graph = false;
};

/// Maps Bragg peaks to orientations. All functions may be called from several threads at once.
///
/// The core runs models for the CPU; models for GPUs, and files that do not hold what the core needs, run as
/// graphs in torch. ModelInfo::engine says which. The core's threads, which tokenize and refine in either
/// case, are set by microinfer::set_num_threads() (microinfer/thread_pool.hpp), those of a graph by
/// at::set_num_threads() before the Mapper is made; OMP_NUM_THREADS sets both. Of calls that run at once one
/// has the core's threads, the others run on their calling ones; a graph answers them one after the other.
class Mapper {
  public:
    /// Loads a file that `microinfer export` wrote, in any of its formats; which, the file says. As graphs
    /// only TorchScript files and AOTInductor packages run. The checksum is verified before any code in the
    /// file is loaded. It finds damage, and does not prove where a file comes from: load only files that you
    /// trust, since they hold code.
    ///
    /// Throws FileError for a file that is missing, damaged, foreign, of another version, whose graph C++
    /// cannot run where that is asked for, or for a device that is not there, and std::invalid_argument for
    /// options that do not fit the model.
    explicit Mapper(const std::string& path, const MapperOptions& options = {});

    /// Finishes the row in hand; those that still wait get a std::runtime_error that says so, and calls of
    /// submit() that wait for room throw it. No other call may be under way.
    ~Mapper();

    Mapper(const Mapper&) = delete;
    Mapper& operator=(const Mapper&) = delete;

    /// What the file says of the model.
    [[nodiscard]] const ModelInfo& model() const;

    /// Answers patterns, in their order. All patterns of a call are in memory at once, up to 4 kB each.
    ///
    /// Throws std::invalid_argument for offsets that do not rise from 0 to the number of peaks, and
    /// std::runtime_error where torch fails; the message says with what. std::bad_alloc where there is not
    /// enough memory; later calls answer as before.
    [[nodiscard]] std::vector<Answer> map(const RaggedPeaks& peaks) const;

    /// As above.
    [[nodiscard]] std::vector<Answer> map(const PeakList& peaks) const { return map(peaks.view()); }

    /// Answers patterns on a thread of the mapper's own, rows in the order in which they came. Returns at
    /// once, unless MapperOptions::queue rows wait already. Collect the answers with get(), which throws what
    /// map() would have thrown; wait_for() asks whether they are there.
    [[nodiscard]] std::future<std::vector<Answer>> submit(PeakList peaks);

  private:
    class Work;
    std::unique_ptr<Work> work_;
};

}  // namespace microinfer
