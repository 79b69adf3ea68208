/// Random weights of small models.
#pragma once

#include <microinfer/network_arrays.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace microinfer::tests {

/// A model's arrays by name; owns their memory.
class RandomArrays {
  public:
    /// The arrays, as long as this lives.
    [[nodiscard]] NamedArrays arrays() const {
        NamedArrays views;
        for (const auto& [name, array] : floats_) {
            views[name] = {array.elements.data(), array.shape};
        }
        for (const auto& [name, array] : integers_) {
            views[name] = {array.elements.data(), array.shape};
        }
        return views;
    }

    /// Writes the arrays in the safetensors format.
    [[nodiscard]] std::string safetensors() const {
        std::ostringstream entries;
        std::string data;
        append(integers_, "I64", entries, data);  // the larger elements first, so that all are aligned
        append(floats_, "F32", entries, data);
        std::string header = entries.str();
        header.front() = '{';  // in the place of the first comma
        header += '}';
        header.resize((header.size() + 7) / 8 * 8, ' ');
        std::string length(8, '\0');
        for (std::size_t i = 0; i < 8; ++i) {
            length[i] = static_cast<char>(header.size() >> (8 * i) & 255U);
        }
        return length + header + data;
    }

  protected:
    void add(const std::string& name, std::vector<std::int64_t> shape, std::vector<float> elements) {
        floats_[name] = {std::move(elements), std::move(shape)};
    }

    void add(const std::string& name, std::vector<std::int64_t> shape, std::vector<std::int64_t> elements) {
        integers_[name] = {std::move(elements), std::move(shape)};
    }

    void add_random(const std::string& name, const std::vector<std::int64_t>& shape, double mean,
                    double deviation) {
        std::int64_t size = 1;
        for (const std::int64_t axis : shape) {
            size *= axis;
        }
        std::vector<float> elements(static_cast<std::size_t>(size));
        for (float& element : elements) {
            element = static_cast<float>(mean + deviation * normal());
        }
        add(name, shape, elements);
    }

    void add_linear(const std::string& name, std::int64_t outputs, std::int64_t inputs, double gain) {
        add_random(name + ".weight", {outputs, inputs}, 0.0, gain / std::sqrt(static_cast<double>(inputs)));
        add_random(name + ".bias", {outputs}, 0.0, 0.3);
    }

    void add_norm(const std::string& name, std::int64_t width) {
        add_random(name + ".weight", {width}, 1.0, 0.3);
        add_random(name + ".bias", {width}, 0.0, 0.3);
    }

    /// The arrays of a transformer's block.
    void add_block(const std::string& name, std::int64_t width) {
        add_norm(name + ".norm1", width);
        add_linear(name + ".attention.qkv", 3 * width, width, 1.0);
        add_linear(name + ".attention.out", width, width, 1.0);
        add_norm(name + ".norm2", width);
        add_linear(name + ".feed_forward.0", 2 * width, width, 1.0);
        add_linear(name + ".feed_forward.2", width, 2 * width, 1.0);
    }

    /// A number of the standard normal distribution.
    double normal() { return normal_(random_); }

  private:
    template <typename T>
    struct Owned {
        std::vector<T> elements;
        std::vector<std::int64_t> shape;
    };
    template <typename T>
    using Arrays = std::map<std::string, Owned<T>>;

    template <typename T>
    static void append(const Arrays<T>& arrays, const char* type, std::ostream& header, std::string& data) {
        for (const auto& [name, array] : arrays) {
            header << ",\"" << name << R"(":{"dtype":")" << type << R"(","shape":[)";
            for (std::size_t i = 0; i < array.shape.size(); ++i) {
                header << (i > 0 ? "," : "") << array.shape[i];
            }
            header << R"(],"data_offsets":[)" << data.size() << ",";
            data.append(reinterpret_cast<const char*>(array.elements.data()),
                        array.elements.size() * sizeof(T));
            header << data.size() << "]}";
        }
    }

    std::mt19937 random_{20};
    std::normal_distribution<double> normal_;
    Arrays<float> floats_;
    Arrays<std::int64_t> integers_;
};

}  // namespace microinfer::tests
