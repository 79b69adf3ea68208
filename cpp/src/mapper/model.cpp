#include "../answers/ranking.hpp"
#include "../network/network.hpp"
#include "../require.hpp"
#include "model_file.hpp"

#include <microinfer/model.hpp>
#include <microinfer/refinement.hpp>
#include <microinfer/thread_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <numbers>
#include <optional>
#include <utility>
#include <vector>

namespace microinfer {
namespace {

/// Patterns that go through the network together: their features stay in the cache from layer to layer.
constexpr std::int64_t kPatterns = 16;
/// Most patterns of a block. Refinement is slower where it takes turns with the network at short intervals.
constexpr std::int64_t kLargestBlock = 8 * kPatterns;

/// Patterns of a block, so that all threads have some.
std::int64_t block_of(std::int64_t patterns) {
    const std::int64_t share = patterns / (4 * num_threads()) / kPatterns * kPatterns;
    return std::clamp(share, kPatterns, kLargestBlock);
}

/// de Broglie wavelength of electrons in Angstrom, for a voltage in V.
double electron_wavelength(double voltage) {
    constexpr double planck = 6.62607015e-34;
    constexpr double mass = 9.1093837015e-31;
    constexpr double charge = 1.602176634e-19;
    constexpr double light = 299792458.0;
    const double energy = charge * voltage;
    return 1e10 * planck / std::sqrt(2.0 * mass * energy * (1.0 + energy / (2.0 * mass * light * light)));
}

/// Rows a*, b*, c* in 1/Angstrom, a along x and b in the xy plane.
Matrix3<double> reciprocal_of(const std::array<double, 6>& lattice) {
    constexpr double degree = std::numbers::pi / 180.0;
    const auto [a, b, c, alpha, beta, gamma] = lattice;
    const auto open = [](double angle) { return angle > 0.0 && angle < 180.0; };
    require(a > 0.0 && b > 0.0 && c > 0.0 && open(alpha) && open(beta) && open(gamma),
            "a phase has a lattice that no unit cell has");
    const double cx = std::cos(beta * degree);
    const double cy = (std::cos(alpha * degree) - cx * std::cos(gamma * degree)) / std::sin(gamma * degree);
    const double cz = std::sqrt(1.0 - cx * cx - cy * cy);
    require(cz > 0.0, "a phase has a lattice that no unit cell has");
    const Vector3<double> edges[3] = {{a, 0.0, 0.0},
                                      {b * std::cos(gamma * degree), b * std::sin(gamma * degree), 0.0},
                                      {c * cx, c * cy, c * cz}};
    Matrix3<double> rows;
    for (int i = 0; i < 3; ++i) {
        const Vector3<double> normal = cross(edges[(i + 1) % 3], edges[(i + 2) % 3]);
        const Vector3<double> row = scaled(normal, 1.0 / dot(edges[i], normal));
        rows.m[i][0] = row.x;
        rows.m[i][1] = row.y;
        rows.m[i][2] = row.z;
    }
    return rows;
}

/// Nothing where the model states no voltage, or a phase has no reflections.
std::optional<Refinement> refinement_of(const ModelInfo& model) {
    std::vector<double> vectors;
    std::vector<std::int64_t> offsets{0};
    for (const Phase& phase : model.phases) {
        const Matrix3<double> r = reciprocal_of(phase.lattice);
        for (const auto& [h, k, l, amplitude] : phase.reflections) {
            for (int i = 0; i < 3; ++i) {
                vectors.push_back(h * r.m[0][i] + k * r.m[1][i] + l * r.m[2][i]);
            }
            vectors.push_back(amplitude);
        }
        offsets.push_back(static_cast<std::int64_t>(vectors.size() / 4));
        if (phase.reflections.empty()) {
            return std::nullopt;
        }
    }
    if (model.voltage == 0.0) {
        return std::nullopt;
    }
    return Refinement(std::move(vectors), std::move(offsets), electron_wavelength(model.voltage));
}

/// The disks of a block of patterns, those without an answer left out. Owns its memory.
class BlockDisks {
  public:
    BlockDisks(const RaggedPeaks& peaks, std::int64_t begin, std::int64_t end, const TokenSpec& spec) {
        std::int64_t longest = 0;
        for (std::int64_t i = begin; i < end; ++i) {
            longest = std::max(longest, peaks.offsets[i + 1] - peaks.offsets[i]);
        }
        length_ = std::min<std::int64_t>(longest, spec.max_disks);
        const auto patterns = static_cast<std::size_t>(end - begin);
        const std::size_t size = patterns * static_cast<std::size_t>(length_);
        for (std::vector<float>* const values : {&radius_, &angle_, &intensity_}) {
            values->resize(size);
        }
        for (std::vector<std::int32_t>* const bins : {&radius_bin_, &angle_bin_, &intensity_bin_}) {
            bins->resize(size);
        }
        mask_ = std::make_unique<bool[]>(size);
        count_.resize(patterns);
        valid_ = std::make_unique<bool[]>(patterns);
        tokenize({peaks.qx, peaks.qy, peaks.intensity, peaks.offsets + begin, end - begin, peaks.peaks}, spec,
                 {radius_.data(), angle_.data(), intensity_.data(), radius_bin_.data(), angle_bin_.data(),
                  intensity_bin_.data(), mask_.get(), count_.data(), valid_.get(), length_});
    }

    [[nodiscard]] std::int32_t count(std::int64_t pattern) const {
        return count_[static_cast<std::size_t>(pattern)];
    }
    [[nodiscard]] bool valid(std::int64_t pattern) const { return valid_[static_cast<std::size_t>(pattern)]; }

    /// Keeps the patterns of the rising `index` alone.
    void keep(const std::vector<std::int64_t>& index) {
        for (std::size_t to = 0; to < index.size(); ++to) {
            count_[to] = count_[static_cast<std::size_t>(index[to])];
            const std::int64_t row = static_cast<std::int64_t>(to) * length_;
            for (std::vector<float>* const values : {&radius_, &angle_, &intensity_}) {
                std::copy_n(values->data() + index[to] * length_, length_, values->data() + row);
            }
            for (std::vector<std::int32_t>* const bins : {&radius_bin_, &angle_bin_, &intensity_bin_}) {
                std::copy_n(bins->data() + index[to] * length_, length_, bins->data() + row);
            }
        }
        count_.resize(index.size());
    }

    [[nodiscard]] PaddedDisks view() const { return view(0, static_cast<std::int64_t>(count_.size())); }

    /// The patterns from `begin` to `end`.
    [[nodiscard]] PaddedDisks view(std::int64_t begin, std::int64_t end) const {
        const std::int64_t at = begin * length_;
        return {radius_.data() + at,
                angle_.data() + at,
                intensity_.data() + at,
                radius_bin_.data() + at,
                angle_bin_.data() + at,
                intensity_bin_.data() + at,
                count_.data() + begin,
                end - begin,
                length_};
    }

  private:
    std::vector<float> radius_, angle_, intensity_;
    std::vector<std::int32_t> radius_bin_, angle_bin_, intensity_bin_, count_;
    std::unique_ptr<bool[]> mask_, valid_;
    std::int64_t length_;
};

}  // namespace

class Model::Implementation {
  public:
    Implementation(const std::string& header, const NamedArrays& arrays, const NetworkOptions& options) {
        const mapper::Header parsed = mapper::parse_header(header);
        info_ = parsed.info;
        const auto numbers = options.bfloat16 ? networks::Numbers::bfloat16 : networks::Numbers::float32;
        const networks::Kernels& kernels = networks::kernels(options.instructions, numbers);
        const auto make = info_.kind == "posterior" ? networks::make_posterior : networks::make_reference;
        network_ = make(kernels, numbers, arrays, info_, parsed.network);
        refinement_ = refinement_of(info_);
    }

    [[nodiscard]] const ModelInfo& info() const { return info_; }
    [[nodiscard]] std::int64_t candidates() const { return network_->candidates(); }
    [[nodiscard]] bool can_refine() const { return refinement_.has_value(); }

    void answer(const RaggedPeaks& peaks, const AnswerOptions& options, const Answers& to) const {
        require_sound(peaks);
        const Refinement* const refinement = refinement_for(options.refine);
        require(options.min_disks >= 0, "min_disks must be at least 0", options.min_disks);
        TokenSpec spec = info_.tokens;
        spec.min_disks = options.min_disks > 0 ? options.min_disks : spec.min_disks;
        require_sound(spec);
        parallel_for(peaks.patterns, block_of(peaks.patterns), [&](std::int64_t begin, std::int64_t end) {
            answer_block(peaks, begin, end, spec, options.selected, refinement, to);
        });
    }

    void rank(const PaddedDisks& disks, const FoundCandidates& found, bool refine, const Answers& to) const {
        const Refinement* const refinement = refinement_for(refine);
        const std::int64_t count = candidates();
        const auto phases = static_cast<std::int64_t>(info_.phases.size());
        for (std::int64_t i = 0; i < disks.patterns * count; ++i) {
            require(found.phase[i] >= 0 && found.phase[i] < phases, "phase must be one of the model's",
                    found.phase[i]);
        }
        parallel_for(disks.patterns, kPatterns, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                answers::rank(disks, i, found, count, refinement, info_.calibration,
                              to.candidates + i * count);
            }
        });
    }

  private:
    [[nodiscard]] const Refinement* refinement_for(bool refine) const {
        require(!refine || refinement_.has_value(),
                "the model states no voltage, or no reflections to refine with");
        return refine ? &*refinement_ : nullptr;
    }

    void answer_block(const RaggedPeaks& peaks, std::int64_t begin, std::int64_t end, const TokenSpec& spec,
                      const bool* selected, const Refinement* refinement, const Answers& to) const {
        const std::int64_t count = candidates();
        BlockDisks disks(peaks, begin, end, spec);
        std::fill_n(to.candidates + begin * count, (end - begin) * count, answers::no_candidate());
        std::vector<std::int64_t> asked;
        for (std::int64_t i = 0; i < end - begin; ++i) {
            to.disks[begin + i] = disks.count(i);
            to.valid[begin + i] = false;
            if (disks.valid(i) && (selected == nullptr || selected[begin + i])) {
                asked.push_back(i);
            }
        }
        if (asked.empty()) {
            return;
        }
        disks.keep(asked);
        const std::size_t size = asked.size() * static_cast<std::size_t>(count);
        std::vector<float> matrix(9 * size);
        std::vector<std::int64_t> phase(size);
        std::vector<float> probability(size);
        const auto valid = std::make_unique<bool[]>(asked.size());
        const auto patterns = static_cast<std::int64_t>(asked.size());
        for (std::int64_t first = 0; first < patterns; first += kPatterns) {
            const std::int64_t at = first * count;
            network_->find(
                disks.view(first, std::min(first + kPatterns, patterns)),
                {matrix.data() + 9 * at, phase.data() + at, probability.data() + at, valid.get() + first});
        }
        const FoundCandidates found{matrix.data(), phase.data(), probability.data()};
        for (std::size_t i = 0; i < asked.size(); ++i) {
            if (valid[i]) {
                to.valid[begin + asked[i]] = true;
                answers::rank(disks.view(), static_cast<std::int64_t>(i), found, count, refinement,
                              info_.calibration, to.candidates + (begin + asked[i]) * count);
            }
        }
    }

    ModelInfo info_;
    std::unique_ptr<networks::Network> network_;
    std::optional<Refinement> refinement_;
};

Model::Model(const std::string& header, const NamedArrays& arrays, const NetworkOptions& options)
    : implementation_(std::make_unique<const Implementation>(header, arrays, options)) {}

Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

const ModelInfo& Model::info() const {
    return implementation_->info();
}

std::int64_t Model::candidates() const {
    return implementation_->candidates();
}

bool Model::can_refine() const {
    return implementation_->can_refine();
}

void Model::answer(const RaggedPeaks& peaks, const AnswerOptions& options, const Answers& to) const {
    implementation_->answer(peaks, options, to);
}

void Model::rank(const PaddedDisks& disks, const FoundCandidates& found, bool refine,
                 const Answers& to) const {
    implementation_->rank(disks, found, refine, to);
}

}  // namespace microinfer
