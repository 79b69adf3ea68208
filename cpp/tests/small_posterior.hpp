/// A small posterior model with random weights, and patterns for it.
#pragma once

#include <microinfer/network_arrays.hpp>
#include <microinfer/padded_disks.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace microinfer::tests {

/// Arrays of a model of two phases, sharp enough to have clear answers. Owns their memory.
class SmallPosterior {
  public:
    SmallPosterior() {
        add_linear("embedding.0", kWidth, 64, 1.0);
        add_linear("embedding.2", kWidth, kWidth, 1.0);
        for (int block = 0; block < 2; ++block) {
            const std::string name = "blocks." + std::to_string(block);
            add_norm(name + ".norm1");
            add_linear(name + ".attention.qkv", 3 * kWidth, kWidth, 1.0);
            add_linear(name + ".attention.out", kWidth, kWidth, 1.0);
            add_norm(name + ".norm2");
            add_linear(name + ".feed_forward.0", 2 * kWidth, kWidth, 1.0);
            add_linear(name + ".feed_forward.2", kWidth, 2 * kWidth, 1.0);
        }
        add_norm("norm");
        add_linear("cell_head.0", 2 * kWidth, 2 * kWidth, 1.0);
        add_linear("cell_head.2", kCells + 1, 2 * kWidth, 4.0);
        const auto orders = static_cast<std::int64_t>(settings.orders.size());
        add_linear("disk_waves", orders * kChannels * 2, kWidth, 1.0);
        add_linear("wave_gate", orders * kChannels, 2 * kWidth, 1.0);
        for (std::int64_t n = 0; n < orders; ++n) {
            add_random("cell_waves." + std::to_string(n) + ".weight", {2 * kCells, kChannels}, 0.0, 3.0);
        }
        std::vector<float> frames;
        for (int cell = 0; cell < kCells; ++cell) {
            const std::vector<float> frame = random_rotation();
            frames.insert(frames.end(), frame.begin(), frame.end());
        }
        add("cells", {kCells, 3, 3}, frames);
        // the identity and a two-fold axis along z; the identity twice
        const std::vector<float> one = {1, 0, 0, 0, 1, 0, 0, 0, 1};
        const std::vector<float> two = {-1, 0, 0, 0, -1, 0, 0, 0, 1};
        std::vector<float> operators;
        for (const auto& operation : {one, two, one, one}) {
            operators.insert(operators.end(), operation.begin(), operation.end());
        }
        add("operators", {2, 2, 3, 3}, operators);
        std::vector<std::int64_t> phase(kCells, 0);
        std::fill(phase.begin() + kCells / 2, phase.end(), 1);
        add("cell_phase", {kCells}, phase);
        std::vector<std::int64_t> harmonics(static_cast<std::size_t>(kWidth / settings.heads / 2));
        std::iota(harmonics.begin(), harmonics.end(), 0);
        add("harmonics", {static_cast<std::int64_t>(harmonics.size())}, harmonics);
    }

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

    PosteriorSettings settings = {2, {1, 2, 3}, 8, 1e-4, 90, 3, 3, 4, 0.12, 0.0524, 0.01};

  private:
    static constexpr std::int64_t kWidth = 20;
    static constexpr std::int64_t kCells = 14;
    static constexpr std::int64_t kChannels = 3;

    template <typename T>
    struct Owned {
        std::vector<T> elements;
        std::vector<std::int64_t> shape;
    };
    template <typename T>
    using Arrays = std::map<std::string, Owned<T>>;

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
            element = static_cast<float>(mean + deviation * normal_(random_));
        }
        add(name, shape, elements);
    }

    void add_linear(const std::string& name, std::int64_t outputs, std::int64_t inputs, double gain) {
        add_random(name + ".weight", {outputs, inputs}, 0.0, gain / std::sqrt(static_cast<double>(inputs)));
        add_random(name + ".bias", {outputs}, 0.0, 0.3);
    }

    void add_norm(const std::string& name) {
        add_random(name + ".weight", {kWidth}, 1.0, 0.3);
        add_random(name + ".bias", {kWidth}, 0.0, 0.3);
    }

    std::vector<float> random_rotation() {
        double q[4];
        double norm = 0.0;
        for (double& part : q) {
            part = normal_(random_);
            norm += part * part;
        }
        for (double& part : q) {
            part /= std::sqrt(norm);
        }
        const auto [w, x, y, z] = q;
        std::vector<float> matrix;
        for (const double element : {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
                                     2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                                     2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)}) {
            matrix.push_back(static_cast<float>(element));
        }
        return matrix;
    }

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

/// Tokens of patterns, which own their memory.
struct Patterns {
    std::vector<float> radius, angle, intensity;
    std::vector<std::int32_t> count;
    std::int64_t length;

    [[nodiscard]] PaddedDisks view() const {
        return {radius.data(),
                angle.data(),
                intensity.data(),
                count.data(),
                static_cast<std::int64_t>(count.size()),
                length};
    }
};

/// Random patterns of up to 40 disks; behind the last disk of each stands what no one should look at.
inline Patterns random_patterns(std::size_t patterns, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_int_distribution<std::int32_t> count(0, 40);
    std::uniform_real_distribution<float> radius(0.2F, 2.0F);
    std::uniform_real_distribution<float> angle(-3.1F, 3.1F);
    std::uniform_real_distribution<float> intensity(0.01F, 1.0F);
    const std::size_t size = 40 * patterns;
    Patterns drawn{std::vector<float>(size, std::nanf("")), std::vector<float>(size, std::nanf("")),
                   std::vector<float>(size, std::nanf("")), std::vector<std::int32_t>(patterns), 40};
    for (std::size_t p = 0; p < patterns; ++p) {
        drawn.count[p] = p == 0 ? 0 : count(random);
        for (std::size_t i = 0; i < static_cast<std::size_t>(drawn.count[p]); ++i) {
            drawn.radius[40 * p + i] = radius(random);
            drawn.angle[40 * p + i] = angle(random);
            drawn.intensity[40 * p + i] = intensity(random);
        }
    }
    return drawn;
}

/// Modes of patterns, which own their memory.
struct Modes {
    std::vector<float> matrix, probability, no_crystal;
    std::vector<std::int64_t> phase;
};

/// What a network finds.
inline Modes modes_of(const PosteriorNetwork& network, const PaddedDisks& disks) {
    const auto patterns = static_cast<std::size_t>(disks.patterns);
    const std::size_t size = patterns * static_cast<std::size_t>(network.modes());
    Modes found{std::vector<float>(9 * size), std::vector<float>(size), std::vector<float>(patterns),
                std::vector<std::int64_t>(size)};
    network.find_modes(
        disks, {found.matrix.data(), found.phase.data(), found.probability.data(), found.no_crystal.data()});
    return found;
}

}  // namespace microinfer::tests
