/// A model's arrays, taken by their names in the checkpoint.
#pragma once

#include "../require.hpp"

#include <microinfer/model.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

namespace microinfer::networks {

using Shape = std::vector<std::int64_t>;

/// "(3, 4)", as Python writes it.
inline std::string text(const Shape& shape) {
    std::string result = "(";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        result += (i > 0 ? ", " : "") + std::to_string(shape[i]);
    }
    return result + (shape.size() == 1 ? ",)" : ")");
}

/// Takes arrays by their names and remembers which. std::invalid_argument names an array that is missing, not
/// known, not finite, or of another type or shape than the others ask for.
class Arrays {
  public:
    explicit Arrays(const NamedArrays& arrays) : arrays_(arrays) {}

    template <typename T>
    const T* take(const std::string& name, const Shape& shape) {
        const ArrayView& array = find(name);
        require(array.shape == shape, name + " does not fit the other arrays, got shape " +
                                          text(array.shape) + ", expected " + text(shape));
        const T* const* const elements = std::get_if<const T*>(&array.elements);
        require(elements != nullptr, name + " must hold " + (std::is_same_v<T, float> ? "float32" : "int64"));
        if constexpr (std::is_same_v<T, float>) {
            const std::int64_t size =
                std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
            require(std::all_of(*elements, *elements + size, [](float x) { return std::isfinite(x); }),
                    name + " holds NaN or infinity");
        }
        taken_.insert(name);
        return *elements;
    }

    [[nodiscard]] std::int64_t size(const std::string& name, std::size_t axis) const {
        const ArrayView& array = find(name);
        require(array.shape.size() > axis, name + " has too few axes, got shape " + text(array.shape));
        return array.shape[axis];
    }

    /// Checks an axis of an array against the header's entry.
    void require_size(const std::string& name, std::size_t axis, const char* entry,
                      std::int64_t expected) const {
        require(size(name, axis) == expected, std::string(entry) + " is " + std::to_string(expected) +
                                                  ", but " + name + " has the shape " +
                                                  text(find(name).shape));
    }

    void require_all_taken() const {
        for (const auto& [name, array] : arrays_) {
            require(taken_.count(name) > 0,
                    "the model has an array " + name + " that the core does not know");
        }
    }

  private:
    [[nodiscard]] const ArrayView& find(const std::string& name) const {
        const auto found = arrays_.find(name);
        require(found != arrays_.end(), "the model has no array " + name);
        return found->second;
    }

    const NamedArrays& arrays_;
    std::set<std::string> taken_;
};

}  // namespace microinfer::networks
