#include "model_file.hpp"

#include "json.hpp"

#include <numbers>
#include <stdexcept>

namespace microinfer::runtime {
namespace {

const Json::Array& list_of(const Json& json, std::size_t size) {
    const Json::Array& list = json.array();
    if (list.size() != size) {
        throw std::runtime_error("a list of " + std::to_string(size) + " was expected, got one of " +
                                 std::to_string(list.size()));
    }
    return list;
}

Matrix3<double> matrix_of(const Json& json) {
    const Json::Array& rows = list_of(json, 3);
    Matrix3<double> matrix{};
    for (std::size_t i = 0; i < 3; ++i) {
        const Json::Array& row = list_of(rows[i], 3);
        for (std::size_t j = 0; j < 3; ++j) {
            matrix.m[i][j] = row[j].number();
        }
    }
    return matrix;
}

Phase phase_of(const Json& json) {
    Phase phase{json["name"].string(), json["space_group"].string(), json["point_group"].string(), {}, {}};
    const Json::Array& lattice = list_of(json["lattice"], 6);
    for (std::size_t i = 0; i < 6; ++i) {
        phase.lattice[i] = lattice[i].number();
    }
    for (const Json& operation : json["operators"].array()) {
        phase.operators.push_back(matrix_of(operation));
    }
    return phase;
}

std::int32_t whole(const Json& json, const char* name) {
    const std::int64_t value = json[name].integer();
    if (value != static_cast<std::int32_t>(value)) {
        throw std::runtime_error(std::string(name) + " is out of range, got " + std::to_string(value));
    }
    return static_cast<std::int32_t>(value);
}

TokenSpec spec_of(const Json& json) {
    const auto real = [&](const char* name) { return static_cast<float>(json[name].number()); };
    const TokenSpec spec = {
        real("radius_max"),       whole(json, "radius_bins"),    whole(json, "angle_bins"),
        real("intensity_min"),    whole(json, "intensity_bins"), real("direct_beam_radius"),
        whole(json, "max_disks"), whole(json, "min_disks")};
    require_sound(spec);
    return spec;
}

/// Appends a phase's reflections; h, k, l and |F| become vectors in 1/Angstrom and |F|.
void add_reflections(const Json& phase, RefinementFacts& facts) {
    const Matrix3<double> reciprocal = matrix_of(phase["reciprocal"]);  // rows a*, b*, c*
    for (const Json& reflection : phase["reflections"].array()) {
        const Json::Array& values = list_of(reflection, 4);
        const double h = values[0].number();
        const double k = values[1].number();
        const double l = values[2].number();
        for (std::size_t i = 0; i < 3; ++i) {
            facts.vectors.push_back(h * reciprocal.m[0][i] + k * reciprocal.m[1][i] + l * reciprocal.m[2][i]);
        }
        facts.vectors.push_back(values[3].number());
    }
    facts.offsets.push_back(static_cast<std::int64_t>(facts.vectors.size() / 4));
}

std::optional<RefinementFacts> refinement_of(const Json& json, const Json::Array& phases) {
    if (json.is_null()) {
        return std::nullopt;
    }
    constexpr double degree = std::numbers::pi / 180.0;
    RefinementFacts facts{
        {json["wavelength"].number(), json["match_radius"].number(), json["position_error"].number(),
         json["excitation_error"].number(), json["excitation_slope"].number(),
         json["tilt_error"].number() * degree, json["in_plane_error"].number() * degree,
         json["false_share"].number(), whole(json, "steps")},
        json["least_probability"].number(),
        json["evidence"].number(),
        json["margin"].number(),
        {},
        {0}};
    require_sound(facts.spec);
    for (const Json& phase : phases) {
        add_reflections(phase, facts);
        if (facts.offsets.back() == facts.offsets[facts.offsets.size() - 2]) {
            return std::nullopt;
        }
    }
    return facts;
}

std::optional<NetworkSettings> core_of(const Json& metadata) {
    const auto found = metadata.object().find("core");
    if (found == metadata.object().end() || found->second.is_null()) {  // older files have no entry
        return std::nullopt;
    }
    const Json& json = found->second;
    const std::string& kind = metadata["kind"].string();
    if (kind == "reference") {
        return ReferenceSettings{json["heads"].integer()};
    }
    if (kind != "posterior") {
        throw std::runtime_error("kind must be posterior or reference, got " + kind);
    }
    std::vector<std::int64_t> orders;
    for (const Json& order : json["orders"].array()) {
        orders.push_back(order.integer());
    }
    return PosteriorSettings{json["heads"].integer(),         orders,
                             json["top_cells"].integer(),     json["cells_edge"].number(),
                             json["negligible"].number(),     json["angles"].integer(),
                             json["peaks"].integer(),         json["window"].integer(),
                             json["modes"].integer(),         json["mode_radius"].number(),
                             json["leading"].number(),        json["confidence_radius"].number(),
                             json["confidence_edge"].number()};
}

}  // namespace

ModelFacts parse_metadata(const std::string& text) {
    const Json json = Json::parse(text);
    const Json::Array& phases = json["phases"].array();
    const Json& voltage = json["voltage"];
    const Json::Array& calibration = list_of(json["calibration"], 2);
    ModelFacts facts{{json["name"].string(),
                      json["format"].string(),
                      json["device"].string(),
                      json["dtype"].string(),
                      {},
                      json["microinfer"].string(),
                      voltage.is_null() ? 0.0 : voltage.number(),
                      json["k_max"].number(),
                      spec_of(json["tokens"]),
                      {}},
                     json["processor"].string(),
                     calibration[0].number(),
                     calibration[1].number(),
                     refinement_of(json["refinement"], phases),
                     core_of(json)};
    for (const Json& phase : phases) {
        facts.info.phases.push_back(phase_of(phase));
    }
    return facts;
}

}  // namespace microinfer::runtime
