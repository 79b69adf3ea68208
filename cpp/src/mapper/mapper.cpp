#include "../require.hpp"
#include "row_queue.hpp"

#include <microinfer/mapper.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace microinfer {
namespace {

Answer answer_of(bool valid, const Candidate* candidates, std::int64_t count) {
    const Candidate& best = candidates[0];
    Answer answer{best.matrix, best.phase, best.probability, best.score, valid, {}};
    for (std::int64_t k = 1; k < count && candidates[k].phase >= 0; ++k) {
        answer.alternatives.push_back(candidates[k]);
    }
    return answer;
}

}  // namespace

/// The model, and the rows that wait for it.
class Mapper::Work {
  public:
    Work(const std::string& path, const MapperOptions& options)
        : refine_(options.refine),
          model_(read_model(path, options.network)),
          queue_([this](const RaggedPeaks& peaks) { return map(peaks); }, options.queue) {
        require(!refine_ || model_.can_refine(),
                path +
                    ": the model states no voltage or no reflections to refine with: set "
                    "MapperOptions::refine to false");
    }

    [[nodiscard]] const ModelInfo& info() const { return model_.info(); }

    [[nodiscard]] std::vector<Answer> map(const RaggedPeaks& peaks) const {
        require_sound(peaks);
        const auto patterns = static_cast<std::size_t>(peaks.patterns);
        const std::int64_t count = model_.candidates();
        std::vector<Candidate> candidates(patterns * static_cast<std::size_t>(count));
        const auto valid = std::make_unique<bool[]>(patterns);
        std::vector<std::int32_t> disks(patterns);
        AnswerOptions options;
        options.refine = refine_;
        model_.answer(peaks, options, {candidates.data(), valid.get(), disks.data()});
        std::vector<Answer> answers;
        answers.reserve(patterns);
        for (std::size_t i = 0; i < patterns; ++i) {
            answers.push_back(
                answer_of(valid[i], candidates.data() + i * static_cast<std::size_t>(count), count));
        }
        return answers;
    }

    std::future<std::vector<Answer>> submit(PeakList peaks) { return queue_.submit(std::move(peaks)); }

  private:
    const bool refine_;
    const Model model_;
    mapper::RowQueue queue_;  // the last: its thread uses all of the above
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
