#include "program.hpp"

#include <microinfer/mapper.hpp>

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <exception>

namespace microinfer::runtime {
namespace {

constexpr const char* kEntry = "candidates";

template <typename T>
std::vector<T> elements(const at::Tensor& tensor, at::ScalarType type) {
    const at::Tensor host = tensor.to(at::kCPU, type).contiguous();
    const T* const first = host.const_data_ptr<T>();
    return {first, first + host.numel()};
}

/// Exchanges memory of the host with tensors of the model's device.
class TorchProgram : public Program {
  public:
    explicit TorchProgram(at::Device device) : device_(device) {}

    [[nodiscard]] CandidateArrays candidates(std::vector<float>& peaks, std::vector<std::int64_t>& count,
                                             std::int64_t length) const override {
        const c10::InferenceMode no_gradients;
        const auto patterns = static_cast<std::int64_t>(count.size());
        const at::Tensor inputs[] = {
            at::from_blob(peaks.data(), {patterns, length, 3}, at::kFloat).to(device_),
            at::from_blob(count.data(), {patterns}, at::kLong).to(device_)};
        const std::vector<at::Tensor> outputs = run({inputs[0], inputs[1]});
        TORCH_CHECK(outputs.size() == 4 && outputs[0].dim() == 4, "the model's answers have another layout");
        const auto valid = elements<std::uint8_t>(outputs[3], at::kByte);
        return {outputs[0].size(1), elements<float>(outputs[0], at::kFloat),
                elements<std::int64_t>(outputs[1], at::kLong), elements<float>(outputs[2], at::kFloat),
                valid};
    }

  private:
    [[nodiscard]] virtual std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) const = 0;

    at::Device device_;
};

class TorchScriptProgram : public TorchProgram {
  public:
    TorchScriptProgram(const std::string& path, at::Device device)
        : TorchProgram(device), module_(torch::jit::load(path, device)) {
        module_.eval();
    }

  private:
    [[nodiscard]] std::vector<at::Tensor> run(std::vector<at::Tensor> inputs) const override {
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

std::string read_metadata(const std::string& path) {
    caffe2::serialize::PyTorchStreamReader reader(path);
    const auto [bytes, size] = reader.getRecord("extra/microinfer.json");
    return {static_cast<const char*>(bytes.get()), size};
}

std::unique_ptr<Program> load_program(const std::string& path, const std::string& format,
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
    throw FileError(path + ": the format " + format +
                    " does not run in C++: export the model with --format aoti or --format torchscript");
}

std::string short_message(const std::exception& error) {
    const auto* const detailed = dynamic_cast<const c10::Error*>(&error);
    return detailed != nullptr ? detailed->what_without_backtrace() : error.what();
}

}  // namespace microinfer::runtime
