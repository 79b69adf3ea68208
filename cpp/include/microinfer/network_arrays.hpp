/// Networks from their arrays by name, as Python and exported files hand them over.
///
/// The names are those of the models' `state_dict` and those that python/microinfer/models/fused.py adds.
#pragma once

#include <microinfer/posterior.hpp>
#include <microinfer/reference.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace microinfer {

/// An array in C order. Not owning.
struct ArrayView {
    std::variant<const float*, const std::int64_t*> elements;
    std::vector<std::int64_t> shape;
};

/// Arrays by name.
using NamedArrays = std::map<std::string, ArrayView>;

/// What of a posterior model is not in its arrays; PosteriorSpec says what each means.
struct PosteriorSettings {
    std::int64_t heads;
    std::vector<std::int64_t> orders;
    std::int64_t top_cells;
    double cells_edge;
    double negligible;
    std::int64_t angles;
    std::int64_t peaks;
    std::int64_t window;
    std::int64_t modes;
    double mode_radius;
    double leading;
    double confidence_radius;
    double confidence_edge;
};

/// What of a reference model is not in its arrays.
struct ReferenceSettings {
    std::int64_t heads;
};

/// What of a model is not in its arrays, by the model's kind.
using NetworkSettings = std::variant<PosteriorSettings, ReferenceSettings>;

/// Makes a network of arrays, copying what it needs of them. `numbers` and `instructions` as PosteriorNetwork
/// takes them.
///
/// Throws std::invalid_argument, which names the array or the setting, for an array that is missing, unknown,
/// of another type or shape than the others ask for, or out of range, and for settings that cannot be.
std::unique_ptr<PosteriorNetwork> make_posterior_network(const NamedArrays& arrays,
                                                         const PosteriorSettings& settings,
                                                         Numbers numbers = Numbers::float32,
                                                         const std::string& instructions = "auto");

/// The same for a reference model.
std::unique_ptr<ReferenceNetwork> make_reference_network(const NamedArrays& arrays,
                                                         const ReferenceSettings& settings,
                                                         Numbers numbers = Numbers::float32,
                                                         const std::string& instructions = "auto");

}  // namespace microinfer
