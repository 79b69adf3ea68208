#include <microinfer/torchscript.hpp>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <stdexcept>
#include <unordered_map>

namespace microinfer {
namespace {

constexpr const char* kHeader = "microinfer.json";  // as in python/microinfer/models/graph.py
constexpr std::int64_t kPatterns = 4096;            // of one call: its tensors' memory grows with them

/// What went wrong, without torch's backtrace.
std::string message_of(const std::exception& error) {
    const auto* const of_torch = dynamic_cast<const c10::Error*>(&error);
    return of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
}

at::Device device_of(const std::string& name) {
    try {
        const at::Device device(name);
        if (device.is_cpu() || (device.is_cuda() && at::hasCUDA())) {
            return device;
        }
    } catch (const c10::Error&) {
        throw std::invalid_argument("device must be one that torch knows, got '" + name + "'");
    }
    throw std::invalid_argument("device must be cpu, or cuda where torch finds a GPU, got '" + name + "'");
}

}  // namespace

struct TorchScriptModel::Graph {
    Graph(const std::string& path, const std::string& name) : device(device_of(name)) {
        try {
            std::unordered_map<std::string, std::string> files{{kHeader, ""}};
            module = torch::jit::load(path, device, files);
            info = model_info(files[kHeader]);
        } catch (const std::exception& error) {
            throw FileError(path + " cannot be used as an exported model: " + message_of(error));
        }
    }

    void answer(const RaggedPeaks& peaks, std::int64_t begin, std::int64_t end,
                std::vector<Answer>& to) const {
        const std::int64_t first = peaks.offsets[begin];
        const auto column = [&](const float* all) {
            return at::from_blob(const_cast<float*>(all + first), {peaks.offsets[end] - first}, at::kFloat);
        };
        const at::Tensor values = at::stack({column(peaks.qx), column(peaks.qy), column(peaks.intensity)}, 1);
        const at::Tensor offsets =
            at::from_blob(const_cast<std::int64_t*>(peaks.offsets + begin), {end - begin + 1}, at::kLong)
                .sub(first);
        const c10::IValue found = module.get_method("ragged")({values.to(device), offsets.to(device)});
        const auto& part = found.toTupleRef().elements();
        const auto tensor = [&](std::size_t index, at::ScalarType type) {
            return part.at(index).toTensor().to(at::kCPU, type).contiguous();
        };
        const at::Tensor matrix = tensor(0, at::kFloat);
        const at::Tensor phase = tensor(1, at::kInt);
        const at::Tensor confidence = tensor(2, at::kFloat);
        const at::Tensor valid = tensor(3, at::kBool);
        for (std::int64_t i = 0; i < end - begin; ++i) {
            to.push_back({load(matrix.const_data_ptr<float>() + 9 * i),
                          phase.const_data_ptr<std::int32_t>()[i],
                          confidence.const_data_ptr<float>()[i],
                          std::numeric_limits<float>::quiet_NaN(),
                          valid.const_data_ptr<bool>()[i],
                          {}});
        }
    }

    at::Device device;
    torch::jit::Module module;
    ModelInfo info;
};

TorchScriptModel::TorchScriptModel(const std::string& path, const std::string& device)
    : graph_(std::make_unique<const Graph>(path, device)) {}

TorchScriptModel::~TorchScriptModel() = default;
TorchScriptModel::TorchScriptModel(TorchScriptModel&&) noexcept = default;
TorchScriptModel& TorchScriptModel::operator=(TorchScriptModel&&) noexcept = default;

const ModelInfo& TorchScriptModel::model() const {
    return graph_->info;
}

std::vector<Answer> TorchScriptModel::map(const RaggedPeaks& peaks) const {
    require_sound(peaks);
    std::vector<Answer> answers;
    answers.reserve(static_cast<std::size_t>(peaks.patterns));
    try {
        const c10::InferenceMode no_gradients;
        // TorchScript's optimiser watches the first calls, and on a GPU then compiles for half a minute.
        const torch::jit::GraphOptimizerEnabledGuard as_it_stands(false);
        for (std::int64_t begin = 0; begin < peaks.patterns; begin += kPatterns) {
            graph_->answer(peaks, begin, std::min(begin + kPatterns, peaks.patterns), answers);
        }
    } catch (const std::exception& error) {
        throw std::runtime_error("torch failed to map the patterns: " + message_of(error));
    }
    return answers;
}

}  // namespace microinfer
