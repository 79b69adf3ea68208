#include "torch_program.hpp"

#include "batches.hpp"

#include <microinfer/mapper.hpp>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace microinfer::runtime {
namespace {

constexpr const char* kEntry = "candidates";

template <typename T>
std::vector<T> elements(const at::Tensor& tensor, at::ScalarType type) {
    const at::Tensor host = tensor.to(at::kCPU, type).contiguous();
    const T* const first = host.const_data_ptr<T>();
    return {first, first + host.numel()};
}

/// The peaks of a batch, each pattern padded with zeros to the batch's length.
struct PaddedPeaks {
    PaddedPeaks(const RaggedPeaks& all, const std::vector<std::int64_t>& patterns, std::int64_t length)
        : values(patterns.size() * static_cast<std::size_t>(3 * length)) {
        float* row = values.data();
        for (const std::int64_t pattern : patterns) {
            const std::int64_t begin = all.offsets[pattern];
            count.push_back(all.offsets[pattern + 1] - begin);
            for (std::int64_t i = 0; i < count.back(); ++i) {
                row[3 * i] = all.qx[begin + i];
                row[3 * i + 1] = all.qy[begin + i];
                row[3 * i + 2] = all.intensity[begin + i];
            }
            row += 3 * length;
        }
    }

    std::vector<float> values;  // (patterns, length, 3)
    std::vector<std::int64_t> count;
};

/// Lays the rows of a batch where they belong among those of all `patterns`.
template <typename T>
void scatter(const std::vector<T>& rows, const std::vector<std::int64_t>& places, std::size_t patterns,
             std::vector<T>& all) {
    const auto width = static_cast<std::ptrdiff_t>(rows.size() / places.size());
    all.resize(patterns * static_cast<std::size_t>(width));
    for (std::size_t i = 0; i < places.size(); ++i) {
        const auto row = rows.begin() + static_cast<std::ptrdiff_t>(i) * width;
        std::copy(row, row + width, all.begin() + places[i] * width);
    }
}

/// Runs torch's work on one thread, whoever asks for it. For every thread that calls it torch keeps a team of
/// OpenMP threads of its own, and several teams slow each other down.
class TorchThread {
  public:
    TorchThread() : thread_([this] { serve(); }) {}

    ~TorchThread() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

    TorchThread(const TorchThread&) = delete;
    TorchThread& operator=(const TorchThread&) = delete;

    /// Waits for the work and returns what it returns, or throws what it throws. It has as many threads as
    /// the caller's would have.
    template <typename Work>
    auto run(const Work& work) {
        using Task = std::packaged_task<decltype(work())()>;
        const auto task = std::make_shared<Task>([&work, threads = at::get_num_threads()] {
            if (at::get_num_threads() != threads) {
                at::set_num_threads(threads);
            }
            return work();
        });
        auto result = task->get_future();
        {
            const std::lock_guard lock(mutex_);
            tasks_.emplace_back([task] { (*task)(); });  // which lives until the thread is done with it
        }
        changed_.notify_one();
        return result.get();
    }

  private:
    void serve() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
            if (tasks_.empty()) {
                return;
            }
            const std::function<void()> task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;
    bool stopping_ = false;
    std::thread thread_;  // the last: it uses all of the above
};

/// Runs patterns of similar length together, and exchanges memory of the host with tensors of the model's
/// device.
class TorchProgram : public Program {
  public:
    explicit TorchProgram(at::Device device) : device_(device) {}

    [[nodiscard]] CandidateArrays candidates(const RaggedPeaks& peaks, const Disks& disks) const override {
        return thread_.run([&] { return answer_all(peaks, disks); });
    }

  private:
    [[nodiscard]] virtual std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) const = 0;

    [[nodiscard]] CandidateArrays answer_all(const RaggedPeaks& peaks, const Disks& disks) const {
        std::vector<std::int64_t> count;
        for (const std::int64_t pattern : disks.pattern) {
            count.push_back(peaks.offsets[pattern + 1] - peaks.offsets[pattern]);
        }
        CandidateArrays all{};
        for (const Batch& batch : batches(count, device_.is_cpu() ? kOnCpu : kOnGpu)) {
            std::vector<std::int64_t> patterns;
            for (const std::int64_t place : batch.patterns) {
                patterns.push_back(disks.pattern[static_cast<std::size_t>(place)]);
            }
            const CandidateArrays part = answer({peaks, patterns, batch.length}, batch.length);
            all.candidates = part.candidates;
            scatter(part.matrix, batch.patterns, count.size(), all.matrix);
            scatter(part.phase, batch.patterns, count.size(), all.phase);
            scatter(part.probability, batch.patterns, count.size(), all.probability);
            scatter(part.valid, batch.patterns, count.size(), all.valid);
        }
        return all;
    }

    [[nodiscard]] CandidateArrays answer(PaddedPeaks peaks, std::int64_t length) const {
        const auto patterns = static_cast<std::int64_t>(peaks.count.size());
        try {
            const c10::InferenceMode no_gradients;
            const std::vector<at::Tensor> outputs =
                run({at::from_blob(peaks.values.data(), {patterns, length, 3}, at::kFloat).to(device_),
                     at::from_blob(peaks.count.data(), {patterns}, at::kLong).to(device_)});
            TORCH_CHECK(outputs.size() == 4 && outputs[0].dim() == 4,
                        "the model gives another kind of answers");
            const std::int64_t size = patterns * outputs[0].size(1);
            TORCH_CHECK(outputs[0].numel() == 9 * size && outputs[1].numel() == size &&
                            outputs[2].numel() == size && outputs[3].numel() == patterns,
                        "the model's answers do not fit each other");
            return {outputs[0].size(1), elements<float>(outputs[0], at::kFloat),
                    elements<std::int64_t>(outputs[1], at::kLong), elements<float>(outputs[2], at::kFloat),
                    elements<std::uint8_t>(outputs[3], at::kByte)};
        } catch (const std::exception& error) {
            throw std::runtime_error("torch failed to map " + std::to_string(patterns) +
                                     " patterns: " + short_message(error));
        }
    }

    at::Device device_;
    mutable TorchThread thread_;
};

class TorchScriptProgram : public TorchProgram {
  public:
    TorchScriptProgram(const std::string& path, at::Device device)
        : TorchProgram(device), module_(torch::jit::load(path, device)) {
        module_.eval();
    }

  private:
    [[nodiscard]] std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) const override {
        // TorchScript's optimiser watches the first calls, and on a GPU then compiles for half a minute.
        const torch::jit::GraphOptimizerEnabledGuard as_it_stands(false);
        const c10::IValue answers = module_.get_method(kEntry)({inputs[0], inputs[1]});
        std::vector<at::Tensor> tensors;
        for (const c10::IValue& part : answers.toTupleRef().elements()) {
            tensors.push_back(part.toTensor());
        }
        return tensors;
    }

    torch::jit::Module module_;
};

class CompiledProgram : public TorchProgram {
  public:
    CompiledProgram(const std::string& path, at::Device device)
        : TorchProgram(device),
          loader_(std::make_unique<torch::inductor::AOTIModelPackageLoader>(path, kEntry)) {}

  private:
    [[nodiscard]] std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) const override {
        return loader_->run(inputs);
    }

    std::unique_ptr<torch::inductor::AOTIModelPackageLoader> loader_;
};

}  // namespace

std::unique_ptr<Program> load_graph(const std::string& path, const std::string& format,
                                    const ModelFacts& facts) {
    const std::string& device = facts.info.device;
    if (device == "cuda" && !at::hasCUDA()) {
        throw FileError(path +
                        ": exported for CUDA, and torch finds no GPU here: export it with --device cpu");
    }
    if (format == "torchscript") {
        return std::make_unique<TorchScriptProgram>(path, at::Device(device));
    }
    if (format == "aoti") {
        const std::string processor = at::get_cpu_capability();
        if (processor != facts.processor) {
            throw FileError(path + ": compiled for a processor with " + facts.processor + ", this one has " +
                            processor + ": export the model on this machine, or with --format torchscript");
        }
        return std::make_unique<CompiledProgram>(path, at::Device(device));
    }
    throw FileError(path + ": a graph of the format " + format +
                    " does not run in C++: let the core run it, or export the model with --format aoti or "
                    "--format torchscript");
}

std::string short_message(const std::exception& error) {
    const auto* const detailed = dynamic_cast<const c10::Error*>(&error);
    return detailed != nullptr ? detailed->what_without_backtrace() : error.what();
}

}  // namespace microinfer::runtime
