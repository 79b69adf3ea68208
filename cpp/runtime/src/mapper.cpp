#include "batches.hpp"
#include "model_file.hpp"
#include "program.hpp"
#include "ranking.hpp"
#include "row_queue.hpp"
#include "sealed_file.hpp"

#include <microinfer/mapper.hpp>

#include <algorithm>
#include <optional>
#include <utility>

namespace microinfer {
namespace {

using runtime::Batch;

void require_offsets(const RaggedPeaks& peaks) {
    std::int64_t before = 0;
    for (std::int64_t i = 0; i <= peaks.patterns; ++i) {
        const std::int64_t offset = peaks.offsets[i];
        if (offset < before || (i == 0 && offset != 0)) {
            throw std::invalid_argument("offsets must begin with 0 and never fall, got " +
                                        std::to_string(offset) + " at " + std::to_string(i));
        }
        before = offset;
    }
    if (before != peaks.peaks) {
        throw std::invalid_argument("offsets must end with the number of peaks, " +
                                    std::to_string(peaks.peaks) + ", got " + std::to_string(before));
    }
}

/// The peaks of a batch, each pattern padded with zeros to the batch's length.
struct PaddedPeaks {
    PaddedPeaks(const RaggedPeaks& all, const Batch& batch)
        : values(batch.patterns.size() * static_cast<std::size_t>(3 * batch.length)) {
        float* row = values.data();
        for (const std::int64_t pattern : batch.patterns) {
            const std::int64_t begin = all.offsets[pattern];
            count.push_back(all.offsets[pattern + 1] - begin);
            for (std::int64_t i = 0; i < count.back(); ++i) {
                row[3 * i] = all.qx[begin + i];
                row[3 * i + 1] = all.qy[begin + i];
                row[3 * i + 2] = all.intensity[begin + i];
            }
            row += 3 * batch.length;
        }
    }

    std::vector<float> values;  // (patterns, length, 3)
    std::vector<std::int64_t> count;
};

/// The disks of a batch, for refinement.
runtime::Disks disks_of(const RaggedPeaks& all, const Batch& batch, const TokenSpec& spec) {
    PeakList list;
    std::vector<Peak> pattern;
    for (const std::int64_t index : batch.patterns) {
        pattern.clear();
        for (std::int64_t i = all.offsets[index]; i < all.offsets[index + 1]; ++i) {
            pattern.push_back({all.qx[i], all.qy[i], all.intensity[i]});
        }
        list.add(pattern);
    }
    const std::size_t patterns = batch.patterns.size();
    const std::int64_t length = std::min<std::int64_t>(batch.length, spec.max_disks);
    const std::size_t size = patterns * static_cast<std::size_t>(length);
    runtime::Disks disks{std::vector<float>(size), std::vector<float>(size), std::vector<float>(size),
                         std::vector<std::int32_t>(patterns), length};
    std::vector<std::int32_t> bins(3 * size);
    const auto mask = std::make_unique<bool[]>(size);
    const auto valid = std::make_unique<bool[]>(patterns);
    tokenize(
        list.view(), spec,
        {disks.radius.data(), disks.angle.data(), disks.intensity.data(), bins.data(), bins.data() + size,
         bins.data() + 2 * size, mask.get(), disks.count.data(), valid.get(), length});
    return disks;
}

}  // namespace

/// The model, and the rows that wait for it.
class Mapper::Work {
  public:
    Work(const std::string& path, const MapperOptions& options) : options_(options) {
        const std::string format = runtime::verified_format(path);
        try {
            facts_ = runtime::parse_metadata(runtime::read_metadata(path));
            program_ = runtime::load_program(path, format, facts_);
        } catch (const FileError&) {
            throw;
        } catch (const std::exception& error) {
            throw FileError(path +
                            ": torch cannot load it, and its checksum is right, so it may need another "
                            "version of libtorch: " +
                            runtime::short_message(error));
        }
        if (options.refine && facts_.kind == "posterior" && !facts_.refinement) {
            throw std::invalid_argument(path +
                                        ": the model states no voltage or no reflections to refine with: "
                                        "set MapperOptions::refine to false");
        }
        queue_.emplace([this](const RaggedPeaks& peaks) { return map(peaks); }, options.queue);
    }

    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;

    [[nodiscard]] const ModelInfo& info() const { return facts_.info; }

    [[nodiscard]] std::vector<Answer> map(const RaggedPeaks& peaks) const {
        require_offsets(peaks);
        std::vector<Answer> answers(static_cast<std::size_t>(peaks.patterns));
        for (const Batch& batch : runtime::batches(peaks.offsets, peaks.patterns)) {
            const std::vector<Answer> part = answer(peaks, batch);
            for (std::size_t i = 0; i < part.size(); ++i) {
                answers[static_cast<std::size_t>(batch.patterns[i])] = part[i];
            }
        }
        return answers;
    }

    std::future<std::vector<Answer>> submit(PeakList peaks) { return queue_->submit(std::move(peaks)); }

  private:
    [[nodiscard]] std::vector<Answer> answer(const RaggedPeaks& peaks, const Batch& batch) const {
        PaddedPeaks padded(peaks, batch);
        runtime::CandidateArrays candidates;
        try {
            candidates = program_->candidates(padded.values, padded.count, batch.length);
        } catch (const std::exception& error) {
            throw std::runtime_error("torch failed to map " + std::to_string(batch.patterns.size()) +
                                     " patterns: " + runtime::short_message(error));
        }
        if (!options_.refine || !facts_.refinement || facts_.kind != "posterior") {
            return runtime::first_answers(candidates, facts_);
        }
        return runtime::refined_answers(candidates, disks_of(peaks, batch, facts_.info.tokens), facts_);
    }

    const MapperOptions options_;
    runtime::ModelFacts facts_{};
    std::unique_ptr<runtime::Program> program_;
    std::optional<runtime::RowQueue> queue_;  // the last: its thread uses all of the above
};

Mapper::Mapper(const std::string& path, const MapperOptions& options)
    : work_(std::make_unique<Work>(path, options)) {}

Mapper::~Mapper() = default;

const ModelInfo& Mapper::model() const {
    return work_->info();
}

std::vector<Answer> Mapper::map(const RaggedPeaks& peaks) const {
    return work_->map(peaks);
}

std::future<std::vector<Answer>> Mapper::submit(PeakList peaks) {
    return work_->submit(std::move(peaks));
}

}  // namespace microinfer
