/// Orientations and phases of Bragg peaks in a C++ program.
///
/// Link `microinfer::microinfer`, and:
///
///     microinfer::Mapper mapper("cu.safetensors");    // a checkpoint, as `microinfer train` writes it
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
/// Versions follow semver.org: within a major version (within a minor one while the major is 0) programs
/// compile and run on.
#pragma once

#include <microinfer/model.hpp>
#include <microinfer/version.hpp>

#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

namespace microinfer {

/// The answer at one scan position.
struct Answer {
    /// Orientation, see Candidate; NaN where invalid.
    Matrix3<float> matrix;
    /// Index into ModelInfo::phases; -1 where invalid.
    std::int32_t phase;
    /// Probability that phase and orientation (to 3 degrees) are right, in [0, 1]; 0 where invalid.
    float confidence;
    /// See Candidate; NaN where invalid or not refined.
    float score;
    /// Whether there is an answer: enough disks, no NaN among the peaks, and a crystal.
    bool valid;
    /// The other candidates, ranked; those that exist.
    std::vector<Candidate> alternatives;
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
    /// How the network computes.
    NetworkOptions network;
};

/// Maps Bragg peaks to orientations. All functions may be called from several threads at once: one call has
/// the core's threads (microinfer/thread_pool.hpp), the others run on their calling ones.
class Mapper {
  public:
    /// Reads a checkpoint.
    ///
    /// Throws FileError for a file that is missing, damaged, foreign or of another version, and
    /// std::invalid_argument for options that do not fit the model.
    explicit Mapper(const std::string& path, const MapperOptions& options = {});

    /// Finishes the row in hand; those that still wait get a std::runtime_error that says so, and calls of
    /// submit() that wait for room throw it. No other call may be under way.
    ~Mapper();

    Mapper(const Mapper&) = delete;
    Mapper& operator=(const Mapper&) = delete;

    /// What the file says of the model.
    [[nodiscard]] const ModelInfo& model() const;

    /// Answers patterns, in their order. Throws std::invalid_argument for offsets that do not rise from 0 to
    /// the number of peaks.
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
