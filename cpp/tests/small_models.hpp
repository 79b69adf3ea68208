/// Small models with random weights, and patterns for them.
#pragma once

#include <microinfer/mapper.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace microinfer::tests {

using nlohmann::json;

/// A model of two phases: its header and its arrays by name.
class SmallModel {
  public:
    explicit SmallModel(const std::string& kind) {
        std::vector<std::array<double, 4>> reflections;
        for (int h = -3; h <= 3; ++h) {
            for (int k = -3; k <= 3; ++k) {
                for (int l = -3; l <= 3; ++l) {
                    if (h == 0 && k == 0 && l == 0) {
                        continue;
                    }
                    reflections.push_back({1.0 * h, 1.0 * k, 1.0 * l, 1.0 / (1.0 + h * h + k * k + l * l)});
                }
            }
        }
        const json one = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
        const json two = {{-1, 0, 0}, {0, -1, 0}, {0, 0, 1}};
        const json phase = {{"name", "c\u00fc"},       {"space_group", ""},
                            {"point_group", "2"},      {"lattice", {3, 4, 5, 90, 100, 90}},
                            {"operators", {one, two}}, {"reflections", reflections}};
        json other = phase;
        other["operators"] = {one};
        header = {{"format", "microinfer model"},
                  {"version", 2},
                  {"model",
                   {{"kind", kind}, {"width", kWidth}, {"blocks", 2}, {"heads", 2}, {"channels", kChannels}}},
                  {"tokens",
                   {{"radius_max", 2.0},
                    {"radius_bins", 20},
                    {"angle_bins", 36},
                    {"intensity_min", 1e-3},
                    {"intensity_bins", 8},
                    {"direct_beam_radius", 0.05},
                    {"max_disks", 30},
                    {"min_disks", 2}}},
                  {"phases", {phase, other}},
                  {"card", {{"name", "small"}, {"voltage", 3e5}}},
                  {"calibration", {1.0, 1.0, 0.0}}};
        for (const char* const name : {"blocks.0", "blocks.1"}) {
            add_block(name);
        }
        kind == "posterior" ? add_posterior() : add_reference();
    }

    /// The arrays, as long as this lives.
    [[nodiscard]] NamedArrays arrays() const {
        NamedArrays views;
        for (const auto& [name, array] : floats) {
            views[name] = {array.elements.data(), array.shape};
        }
        if (!cell_phase.empty()) {
            views["cell_phase"] = {cell_phase.data(), {kCells}};
        }
        return views;
    }

    [[nodiscard]] Model model(const NetworkOptions& options = {}) const {
        return {header.dump(), arrays(), options};
    }

    /// The checkpoint's bytes, as the safetensors format has them.
    [[nodiscard]] std::string file() const { return file({{"microinfer", header.dump()}}); }

    [[nodiscard]] std::string file(const json& metadata) const {
        json table = {{"__metadata__", metadata}};
        std::string data;
        const auto append = [&](const std::string& name, const char* type, const auto& elements,
                                const std::vector<std::int64_t>& shape) {
            const std::size_t begin = data.size();
            data.append(reinterpret_cast<const char*>(elements.data()),
                        elements.size() * sizeof(elements[0]));
            table[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {begin, data.size()}}};
        };
        if (!cell_phase.empty()) {
            append("cell_phase", "I64", cell_phase, {kCells});
        }
        for (const auto& [name, array] : floats) {
            append(name, "F32", array.elements, array.shape);
        }
        return file_of(table.dump(), data);
    }

    static std::string file_of(std::string table, const std::string& data) {
        table.resize((table.size() + 7) / 8 * 8, ' ');
        const std::uint64_t size = table.size();
        std::string bytes(sizeof(size), '\0');
        std::memcpy(bytes.data(), &size, sizeof(size));
        return bytes + table + data;
    }

    struct Array {
        std::vector<float> elements;
        std::vector<std::int64_t> shape;
    };
    json header;
    std::map<std::string, Array> floats;
    std::vector<std::int64_t> cell_phase;

  private:
    static constexpr std::int64_t kWidth = 24;
    static constexpr std::int64_t kCells = 14;
    static constexpr std::int64_t kChannels = 3;
    static constexpr std::int64_t kOrders = 5;

    void add(const std::string& name, const std::vector<std::int64_t>& shape, double mean, double deviation) {
        std::int64_t size = 1;
        for (const std::int64_t axis : shape) {
            size *= axis;
        }
        std::vector<float> elements(static_cast<std::size_t>(size));
        for (float& element : elements) {
            element = static_cast<float>(mean + deviation * normal_(random_));
        }
        floats[name] = {elements, shape};
    }

    void add_linear(const std::string& name, std::int64_t outputs, std::int64_t inputs, double gain = 1.0) {
        add(name + ".weight", {outputs, inputs}, 0.0, gain / std::sqrt(static_cast<double>(inputs)));
        add(name + ".bias", {outputs}, 0.0, 0.3);
    }

    void add_norm(const std::string& name, std::int64_t width = kWidth) {
        add(name + ".weight", {width}, 1.0, 0.3);
        add(name + ".bias", {width}, 0.0, 0.3);
    }

    void add_block(const std::string& name) {
        add_norm(name + ".norm1");
        add_linear(name + ".attention.qkv", 3 * kWidth, kWidth);
        add_linear(name + ".attention.out", kWidth, kWidth);
        add_norm(name + ".norm2");
        add_linear(name + ".feed_forward.0", 2 * kWidth, kWidth);
        add_linear(name + ".feed_forward.2", kWidth, 2 * kWidth);
    }

    void add_posterior() {  // sharp enough to have clear answers
        add_linear("embedding.0", kWidth, 64);
        add_linear("embedding.2", kWidth, kWidth);
        add_norm("norm");
        add_linear("cell_head.0", 2 * kWidth, 2 * kWidth);
        add_linear("cell_head.2", kCells + 1, 2 * kWidth, 4.0);
        add_linear("disk_waves", kOrders * kChannels * 2, kWidth);
        add_linear("wave_gate", kOrders * kChannels, 2 * kWidth);
        for (std::int64_t n = 0; n < kOrders; ++n) {
            add("cell_waves." + std::to_string(n) + ".weight", {2 * kCells, kChannels}, 0.0, 3.0);
        }
        std::vector<float> frames;
        for (std::int64_t cell = 0; cell < kCells; ++cell) {  // Rz(a) Rx(b)
            const float a = std::uniform_real_distribution<float>(-3.0F, 3.0F)(random_);
            const float b = std::uniform_real_distribution<float>(0.0F, 3.0F)(random_);
            frames.insert(frames.end(), {std::cos(a), -std::sin(a) * std::cos(b), std::sin(a) * std::sin(b),
                                         std::sin(a), std::cos(a) * std::cos(b), -std::cos(a) * std::sin(b),
                                         0.0F, std::sin(b), std::cos(b)});
            cell_phase.push_back(cell % 2);
        }
        floats["cells"] = {frames, {kCells, 3, 3}};
    }

    void add_reference() {
        add_linear("angle_embedding", kWidth, 30);
        add_norm("norm_in");
        add_norm("norm_out");
        add_linear("orientation_head.0", kWidth / 2, kWidth);
        add_norm("orientation_head.1", kWidth / 2);
        add_linear("orientation_head.3", kWidth / 4, kWidth / 2);
        add_linear("orientation_head.5", kWidth / 8, kWidth / 4);
        add_linear("orientation_head.7", 9, kWidth / 8);
        add_linear("phase_head.0", kWidth / 2, kWidth);
        add_linear("phase_head.2", 2, kWidth / 2);
    }

    std::mt19937 random_{20};
    std::normal_distribution<double> normal_;
};

using Patterns = std::vector<std::vector<Peak>>;

/// Random patterns of up to 39 peaks; some have none or one.
inline Patterns random_patterns(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> radius(0.2F, 1.9F);
    std::uniform_real_distribution<float> angle(-3.1F, 3.1F);
    std::uniform_real_distribution<float> intensity(0.01F, 1.0F);
    Patterns patterns;
    for (std::size_t i = 0; i < count; ++i) {
        std::vector<Peak> peaks(i % 10 < 2 ? i % 10 : 2 + random() % 38);
        for (Peak& peak : peaks) {
            const float r = radius(random);
            const float a = angle(random);
            peak = {r * std::cos(a), r * std::sin(a), intensity(random)};
        }
        patterns.push_back(peaks);
    }
    return patterns;
}

inline PeakList list_of(const Patterns& patterns) {
    PeakList list;
    for (const auto& peaks : patterns) {
        list.add(peaks);
    }
    return list;
}

/// The answers to some patterns; owns their memory.
struct Answered {
    std::int64_t count;  // candidates of a pattern
    std::vector<Candidate> candidates;
    std::unique_ptr<bool[]> valid;
    std::vector<std::int32_t> disks;

    [[nodiscard]] const Candidate* of(std::size_t pattern) const {
        return candidates.data() + pattern * static_cast<std::size_t>(count);
    }
};

inline Answered answer(const Model& model, const Patterns& patterns, const AnswerOptions& options = {}) {
    const PeakList list = list_of(patterns);
    Answered found{model.candidates(),
                   std::vector<Candidate>(patterns.size() * static_cast<std::size_t>(model.candidates())),
                   std::make_unique<bool[]>(patterns.size()), std::vector<std::int32_t>(patterns.size())};
    model.answer(list.view(), options, {found.candidates.data(), found.valid.get(), found.disks.data()});
    return found;
}

/// Whether two patterns have the same candidates, to the bit.
inline bool same(const Candidate* one, const Candidate* two, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) {
        const bool equal = std::memcmp(&one[k].matrix, &two[k].matrix, sizeof(one->matrix)) == 0 &&
                           std::memcmp(&one[k].probability, &two[k].probability, sizeof(float)) == 0 &&
                           std::memcmp(&one[k].score, &two[k].score, sizeof(float)) == 0 &&
                           one[k].phase == two[k].phase;
        if (!equal) {
            return false;
        }
    }
    return true;
}

}  // namespace microinfer::tests
