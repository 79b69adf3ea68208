#include "model_file.hpp"

#include "../crc32.hpp"
#include "../require.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace microinfer {
namespace mapper {
namespace {

using networks::NetworkConfig;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian numbers");

constexpr int kVersion = 2;  // of checkpoints, as in python/microinfer/models/checkpoint.py

/// JSON of few levels. What goes through a value calls itself at each level, so that a file must not set
/// their number.
json parse(std::string_view text) {
    constexpr int kLevels = 64;
    return json::parse(text, [](int level, json::parse_event_t, const json&) {
        require(level <= kLevels, "JSON of more than " + std::to_string(kLevels) + " levels");
        return true;
    });
}

/// The beginning of a value, for messages.
std::string shown(const json& value) {
    return value.dump().substr(0, 60);
}

/// A whole number that a T holds; no fraction and no other value becomes one.
template <typename T>
T whole(const json& value) {
    const bool fits = value.is_number_unsigned()
                          ? std::in_range<T>(value.get<std::uint64_t>())
                          : value.is_number_integer() && std::in_range<T>(value.get<std::int64_t>());
    require(fits, "a whole number in range was expected, got " + shown(value));
    return value.get<T>();
}

/// As above, by its name.
template <typename T>
T whole(const json& entries, const char* name) {
    try {
        return whole<T>(entries.at(name));
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(std::string(name) + ": " + error.what());
    }
}

/// A list of exactly `Size` numbers.
template <std::size_t Size>
std::array<double, Size> numbers(const json& list) {
    require(list.is_array() && list.size() == Size,
            "a list of " + std::to_string(Size) + " numbers was expected, got " + shown(list));
    return list.get<std::array<double, Size>>();
}

Phase phase_of(const json& entry) {
    Phase phase{entry.at("name"), entry.at("space_group"), entry.at("point_group"), {}, {}, {}};
    phase.lattice = numbers<6>(entry.at("lattice"));
    for (const json& reflection : entry.at("reflections")) {
        phase.reflections.push_back(numbers<4>(reflection));
    }
    for (const json& rows : entry.at("operators")) {
        require(rows.is_array() && rows.size() == 3,
                "phase " + phase.name + " has an operator that is no matrix");
        Matrix3<double> matrix;
        for (std::size_t i = 0; i < 3; ++i) {
            const std::array<double, 3> row = numbers<3>(rows[i]);
            std::copy(row.begin(), row.end(), matrix.m[i]);
        }
        phase.operators.push_back(matrix);
    }
    require(!phase.operators.empty(), "phase " + phase.name + " has no operators");
    return phase;
}

TokenSpec tokens_of(const json& entry) {
    const TokenSpec spec = {entry.at("radius_max"),
                            whole<std::int32_t>(entry, "radius_bins"),
                            whole<std::int32_t>(entry, "angle_bins"),
                            entry.at("intensity_min"),
                            whole<std::int32_t>(entry, "intensity_bins"),
                            entry.at("direct_beam_radius"),
                            whole<std::int32_t>(entry, "max_disks"),
                            whole<std::int32_t>(entry, "min_disks")};
    require_sound(spec);
    return spec;
}

NetworkConfig network_of(const json& entry) {
    const NetworkConfig config = {whole<std::int64_t>(entry, "width"), whole<std::int64_t>(entry, "blocks"),
                                  whole<std::int64_t>(entry, "heads"),
                                  whole<std::int64_t>(entry, "channels")};
    require(std::min({config.width, config.blocks, config.channels}) >= 1,
            "model.width, blocks and channels must be at least 1");
    return config;
}

double number_of(const json& card, const char* name) {
    const json& value = card.at(name);
    require(value.is_number(), std::string("card.") + name + " must be a number, got " + shown(value));
    return value.get<double>();
}

/// The card's voltage; 0 where it states none.
double voltage_of(const json& card) {
    if (!card.contains("voltage") || card.at("voltage").is_null()) {
        return 0.0;
    }
    const double voltage = number_of(card, "voltage");
    require(voltage >= 10e3 && voltage <= 3e6,
            "card.voltage must be that of an electron microscope, 10e3 to 3e6 V", voltage);
    return voltage;
}

/// The card's k_max, or another where it has none.
double k_max_of(const json& card, double otherwise) {
    const double k_max = card.contains("k_max") ? number_of(card, "k_max") : otherwise;
    require(k_max > 0.0 && k_max < 100.0, "card.k_max must be above 0 and below 100 1/Angstrom", k_max);
    return k_max;
}

/// A view of an array of the file; `data` is what its offsets count from.
template <typename T>
ArrayView view_of(const json& entry, std::string_view data) {
    std::vector<std::int64_t> shape;
    std::uint64_t size = sizeof(T);
    for (const json& axis : entry.at("shape")) {
        const auto length = whole<std::uint64_t>(axis);
        require(length == 0 || size <= data.size() / length, "its shape needs more bytes than there are");
        size *= length;
        shape.push_back(static_cast<std::int64_t>(length));
    }
    const json& offsets = entry.at("data_offsets");
    const auto begin = whole<std::uint64_t>(offsets.at(0));
    const auto end = whole<std::uint64_t>(offsets.at(1));
    require(begin <= end && end <= data.size() && end - begin == size,
            "its shape does not fit its place in the file");
    const char* const first = data.data() + begin;
    require(reinterpret_cast<std::uintptr_t>(first) % sizeof(T) == 0, "its elements are not aligned");
    return {reinterpret_cast<const T*>(first), shape};
}

ArrayView view_of(const json& entry, std::string_view data) {
    const auto type = entry.at("dtype").get<std::string>();
    require(type == "F32" || type == "I64", "its type is " + type + ", expected F32 or I64");
    return type == "F32" ? view_of<float>(entry, data) : view_of<std::int64_t>(entry, data);
}

/// All bytes of a file, aligned for any of its numbers.
std::string_view read_bytes(const std::string& path, std::unique_ptr<std::max_align_t[]>& memory) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
    // a folder opens, and has a length beyond all files
    require(size >= 0 && size < std::numeric_limits<std::int64_t>::max(), "it cannot be read");
    const auto bytes = static_cast<std::size_t>(size);
    memory = std::make_unique<std::max_align_t[]>(bytes / sizeof(std::max_align_t) + 1);
    auto* const first = reinterpret_cast<char*>(memory.get());
    file.seekg(0);
    require(static_cast<bool>(file.read(first, size)), "it cannot be read");
    return {first, bytes};
}

std::string_view bytes_of(const ArrayView& array) {
    return std::visit(
        [&](const auto* elements) -> std::string_view {
            std::size_t bytes = sizeof(*elements);
            for (const std::int64_t axis : array.shape) {
                bytes *= static_cast<std::size_t>(axis);
            }
            return {reinterpret_cast<const char*>(elements), bytes};
        },
        array.elements);
}

/// Checks the file against its checksum; until 0.3.0 there was none.
void require_whole(const json& metadata, const std::string& header, const NamedArrays& arrays) {
    const auto stated = metadata.find("crc32");
    require(stated == metadata.end() || *stated == checksum(header, arrays),
            "it is damaged: its checksum does not hold");
}

/// Until 0.3.0 it was a slope and an offset of the log-odds.
std::array<double, 3> calibration_of(const json& list) {
    if (list.is_array() && list.size() == 2) {
        const auto [slope, offset] = numbers<2>(list);
        return {slope, slope, offset};
    }
    return numbers<3>(list);
}

Model model_of(std::string_view bytes, const NetworkOptions& options) {
    std::uint64_t length = 0;
    require(bytes.size() >= sizeof(length), "it is no .safetensors file: it is too short");
    std::memcpy(&length, bytes.data(), sizeof(length));
    require(length <= bytes.size() - sizeof(length), "it is cut short, or no .safetensors file");
    const json table = parse(bytes.substr(sizeof(length), length));
    const auto metadata = table.find("__metadata__");
    require(metadata != table.end() && metadata->contains("microinfer"), "it is no checkpoint of microinfer");
    const std::string_view data = bytes.substr(sizeof(length) + length);
    NamedArrays arrays;
    for (const auto& [name, entry] : table.items()) {
        if (name != "__metadata__") {
            try {
                arrays.emplace(name, view_of(entry, data));
            } catch (const std::exception& error) {
                throw std::invalid_argument("array " + name + ": " + error.what());
            }
        }
    }
    const auto header = metadata->at("microinfer").get<std::string>();
    require_whole(*metadata, header, arrays);
    return {header, arrays, options};
}

}  // namespace

Header parse_header(const std::string& text) {
    try {
        const json header = parse(text);
        require(header.at("format") == "microinfer model", "it is no checkpoint of microinfer");
        const int version = whole<std::int32_t>(header, "version");
        require(version >= kVersion,
                "it is of an older version: write it anew in Python, microinfer.load_model(PATH).save(PATH)");
        require(version == kVersion, "it is of a newer version, this microinfer reads version", kVersion);
        const json& card = header.at("card");
        Header parsed{{card.value("name", "unnamed"),
                       header.at("model").at("kind"),
                       voltage_of(card),
                       0.0,
                       tokens_of(header.at("tokens")),
                       {},
                       calibration_of(header.at("calibration"))},
                      network_of(header.at("model"))};
        ModelInfo& info = parsed.info;
        require(info.kind == "posterior" || info.kind == "reference",
                "model.kind must be posterior or reference, got " + info.kind);
        info.k_max = k_max_of(card, info.tokens.radius_max);
        for (const json& phase : header.at("phases")) {
            info.phases.push_back(phase_of(phase));
        }
        require(!info.phases.empty() && info.phases.size() < 1000, "a model has one phase or more");
        return parsed;
    } catch (const json::exception& error) {
        throw std::invalid_argument(std::string("its header cannot be read: ") + error.what());
    }
}

}  // namespace mapper

std::string checksum(const std::string& header, const NamedArrays& arrays) {
    std::uint32_t sum = crc32(header);
    for (const auto& [name, array] : arrays) {
        const std::vector<std::int64_t>& shape = array.shape;
        sum = crc32(name, sum);
        sum = crc32({reinterpret_cast<const char*>(shape.data()), shape.size() * sizeof(shape[0])}, sum);
        sum = crc32(mapper::bytes_of(array), sum);
    }
    return std::to_string(sum);
}

ModelInfo model_info(const std::string& header) {
    return mapper::parse_header(header).info;
}

Model read_model(const std::string& path, const NetworkOptions& options) {
    std::unique_ptr<std::max_align_t[]> memory;
    try {
        return mapper::model_of(mapper::read_bytes(path, memory), options);
    } catch (const std::exception& error) {
        throw FileError(path + " cannot be used as a model: " + error.what());
    }
}

}  // namespace microinfer
