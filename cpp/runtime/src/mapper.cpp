#include "archive.hpp"
#include "core_program.hpp"
#include "disks.hpp"
#include "model_file.hpp"
#include "ranking.hpp"
#include "row_queue.hpp"
#include "sealed_file.hpp"
#include "torch_program.hpp"

#include <microinfer/mapper.hpp>

#include <cstddef>
#include <optional>
#include <utility>

namespace microinfer {
namespace {

constexpr const char* kMetadata = "extra/microinfer.json";
constexpr const char* kArrays = "microinfer.safetensors";

}  // namespace

/// The model, and the rows that wait for it.
class Mapper::Work {
  public:
    Work(const std::string& path, const MapperOptions& options) : options_(options) {
        const std::string format = runtime::verified_format(path);
        try {
            facts_ = read_facts(path);
            const bool core = facts_.core.has_value() && !options.graph;
            facts_.info.engine = core ? "core" : "graph";
            if (core && !multiplies_bfloat16()) {
                facts_.info.dtype = "float32";
            }
            program_ = core ? load_core(path) : runtime::load_graph(path, format, facts_);
        } catch (const FileError&) {
            throw;
        } catch (const std::exception& error) {
            throw FileError(path +
                            ": torch cannot load it, and its checksum is right, so it may need another "
                            "version of libtorch: " +
                            runtime::short_message(error));
        }
        if (options.refine && !facts_.refinement) {
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
        const runtime::Disks disks = runtime::disks_of(peaks, facts_.info.tokens);
        const runtime::CandidateArrays candidates = program_->candidates(peaks, disks);
        require_phases(candidates);
        const std::vector<Answer> found = options_.refine
                                              ? runtime::refined_answers(candidates, disks, facts_)
                                              : runtime::first_answers(candidates, facts_);
        std::vector<Answer> answers(static_cast<std::size_t>(peaks.patterns), runtime::no_answer());
        for (std::size_t i = 0; i < found.size(); ++i) {
            answers[static_cast<std::size_t>(disks.pattern[i])] = found[i];
        }
        return answers;
    }

    std::future<std::vector<Answer>> submit(PeakList peaks) { return queue_->submit(std::move(peaks)); }

  private:
    [[nodiscard]] static runtime::ModelFacts read_facts(const std::string& path) {
        const std::string metadata = runtime::read_record(path, kMetadata);
        try {
            return runtime::parse_metadata(metadata);
        } catch (const std::exception& error) {
            throw FileError(path + ": its record " + kMetadata + " cannot be used: " + error.what() +
                            ": export the model anew");
        }
    }

    /// A file may hold a network of more phases than its metadata names.
    void require_phases(const runtime::CandidateArrays& candidates) const {
        const auto phases = static_cast<std::int64_t>(facts_.info.phases.size());
        for (const std::int64_t phase : candidates.phase) {
            if (phase < 0 || phase >= phases) {
                throw std::runtime_error("the model answers with phase " + std::to_string(phase) +
                                         ", and its file names " + std::to_string(phases) +
                                         ": export the model anew");
            }
        }
    }

    [[nodiscard]] std::unique_ptr<runtime::Program> load_core(const std::string& path) const {
        const std::string arrays = runtime::read_record(path, kArrays);
        try {
            return runtime::core_program(
                arrays, *facts_.core, facts_.info.tokens,
                facts_.info.dtype == "bfloat16" ? Numbers::bfloat16 : Numbers::float32);
        } catch (const std::exception& error) {
            throw FileError(path + ": its record " + kArrays + " cannot be used: " + error.what() +
                            ": export the model anew");
        }
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
