#include "safetensors.hpp"

#include "json.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace microinfer::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian numbers");

void require(bool condition, const std::string& message) {
    if (!condition) {
        throw std::runtime_error(message);
    }
}

template <typename T>
ArrayView view_of(const Json& entry, std::string_view data) {
    std::vector<std::int64_t> shape;
    std::int64_t size = sizeof(T);
    for (const Json& axis : entry["shape"].array()) {
        shape.push_back(axis.integer());
        require(shape.back() >= 0 &&
                    (shape.back() == 0 || size <= std::numeric_limits<std::int64_t>::max() / shape.back()),
                "no array has an axis of " + std::to_string(shape.back()));
        size *= shape.back();
    }
    const Json::Array& offsets = entry["data_offsets"].array();
    if (offsets.size() != 2) {
        throw std::runtime_error("it needs two data_offsets, got " + std::to_string(offsets.size()));
    }
    const std::int64_t begin = offsets[0].integer();
    const std::int64_t end = offsets[1].integer();
    require(begin >= 0 && begin <= end && static_cast<std::uint64_t>(end) <= data.size(),
            "its elements lie outside the " + std::to_string(data.size()) + " bytes that there are");
    require(end - begin == size,
            "it has " + std::to_string(end - begin) + " bytes, its shape needs " + std::to_string(size));
    const char* const first = data.data() + begin;
    require(reinterpret_cast<std::uintptr_t>(first) % sizeof(T) == 0, "its elements are not aligned");
    return {reinterpret_cast<const T*>(first), shape};
}

ArrayView view_of(const Json& entry, std::string_view data) {
    const std::string& type = entry["dtype"].string();
    if (type == "F32") {
        return view_of<float>(entry, data);
    }
    require(type == "I64", "its type is " + type + ", expected F32 or I64");
    return view_of<std::int64_t>(entry, data);
}

}  // namespace

NamedArrays read_safetensors(std::string_view bytes) {
    std::uint64_t length = 0;
    require(bytes.size() >= sizeof(length), "it is cut short");
    std::memcpy(&length, bytes.data(), sizeof(length));
    require(length <= bytes.size() - sizeof(length), "it is cut short");
    const Json header = Json::parse(bytes.substr(sizeof(length), length));
    const std::string_view data = bytes.substr(sizeof(length) + length);
    NamedArrays arrays;
    for (const auto& [name, entry] : header.object()) {
        if (name == "__metadata__") {
            continue;
        }
        try {
            arrays.emplace(name, view_of(entry, data));
        } catch (const std::exception& error) {
            throw std::runtime_error("array " + name + ": " + error.what());
        }
    }
    return arrays;
}

}  // namespace microinfer::runtime
