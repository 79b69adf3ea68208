/// Models that `microinfer export` wrote, run by libtorch: on a GPU, or where torch is at home anyway.
///
/// Link `microinfer::torchscript`. On a processor microinfer::Mapper is several times as fast, and refines.
#pragma once

#include <microinfer/mapper.hpp>

#include <memory>
#include <string>
#include <vector>

namespace microinfer {

/// A TorchScript file that turns Bragg peaks into orientations. All functions may be called from several
/// threads at once.
class TorchScriptModel {
  public:
    /// Loads a file onto a device of torch's, such as "cpu", "cuda" or "cuda:1". Throws FileError for a file
    /// that cannot be used, and std::invalid_argument for a device that is not there.
    explicit TorchScriptModel(const std::string& path, const std::string& device = "cpu");
    ~TorchScriptModel();
    TorchScriptModel(TorchScriptModel&&) noexcept;
    TorchScriptModel& operator=(TorchScriptModel&&) noexcept;

    /// What the file says of the model.
    [[nodiscard]] const ModelInfo& model() const;

    /// Answers patterns, in their order; neither refined (the score is NaN) nor with alternatives. Throws
    /// std::invalid_argument for offsets that do not rise from 0 to the number of peaks, and
    /// std::runtime_error where torch fails.
    [[nodiscard]] std::vector<Answer> map(const RaggedPeaks& peaks) const;

    /// As above.
    [[nodiscard]] std::vector<Answer> map(const PeakList& peaks) const { return map(peaks.view()); }

  private:
    struct Graph;
    std::unique_ptr<const Graph> graph_;
};

}  // namespace microinfer
