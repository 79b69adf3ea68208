#include "disks.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

namespace microinfer::runtime {
namespace {

/// Moves row `from` of a table up to row `to`.
template <typename T>
void move_row(std::vector<T>& table, std::int64_t length, std::int64_t from, std::int64_t to) {
    const auto row = table.begin() + from * length;
    std::copy(row, row + length, table.begin() + to * length);
}

void require_offsets(const RaggedPeaks& peaks) {
    if (peaks.patterns < 0) {
        throw std::invalid_argument("the number of patterns must not be negative, got " +
                                    std::to_string(peaks.patterns));
    }
    std::int64_t before = 0;
    for (std::int64_t i = 0; i <= peaks.patterns; ++i) {
        const std::int64_t offset = peaks.offsets[i];
        if (offset < before || (i == 0 && offset != 0)) {
            throw std::invalid_argument("offsets must begin with 0 and never fall, got " +
                                        std::to_string(offset) + " at " + std::to_string(i));
        }
        before = offset;
    }
    if (before != peaks.peaks) {
        throw std::invalid_argument("offsets must end with the number of peaks, " +
                                    std::to_string(peaks.peaks) + ", got " + std::to_string(before));
    }
}

}  // namespace

PaddedDisks Disks::view() const {
    return {radius.data(),
            angle.data(),
            intensity.data(),
            count.data(),
            static_cast<std::int64_t>(pattern.size()),
            length};
}

BinnedDisks Disks::bins() const {
    return {radius_bin.data(),
            angle_bin.data(),
            intensity_bin.data(),
            count.data(),
            static_cast<std::int64_t>(pattern.size()),
            length};
}

Disks disks_of(const RaggedPeaks& peaks, const TokenSpec& spec) {
    require_offsets(peaks);
    const auto patterns = static_cast<std::size_t>(peaks.patterns);
    std::int64_t length = 0;
    for (std::int64_t i = 0; i < peaks.patterns; ++i) {
        length = std::max(length, peaks.offsets[i + 1] - peaks.offsets[i]);
    }
    length = std::min<std::int64_t>(length, spec.max_disks);
    const std::size_t size = patterns * static_cast<std::size_t>(length);
    Disks disks{{},
                std::vector<float>(size),
                std::vector<float>(size),
                std::vector<float>(size),
                std::vector<std::int32_t>(size),
                std::vector<std::int32_t>(size),
                std::vector<std::int32_t>(size),
                std::vector<std::int32_t>(patterns),
                length};
    const auto mask = std::make_unique<bool[]>(size);
    const auto valid = std::make_unique<bool[]>(patterns);
    tokenize(peaks, spec,
             {disks.radius.data(), disks.angle.data(), disks.intensity.data(), disks.radius_bin.data(),
              disks.angle_bin.data(), disks.intensity_bin.data(), mask.get(), disks.count.data(), valid.get(),
              length});
    // Valid patterns move up to where invalid ones stand.
    for (std::int64_t i = 0; i < peaks.patterns; ++i) {
        if (!valid[static_cast<std::size_t>(i)]) {
            continue;
        }
        const auto to = static_cast<std::int64_t>(disks.pattern.size());
        for (std::vector<float>* const values : {&disks.radius, &disks.angle, &disks.intensity}) {
            move_row(*values, length, i, to);
        }
        for (std::vector<std::int32_t>* const bins :
             {&disks.radius_bin, &disks.angle_bin, &disks.intensity_bin}) {
            move_row(*bins, length, i, to);
        }
        disks.count[static_cast<std::size_t>(to)] = disks.count[static_cast<std::size_t>(i)];
        disks.pattern.push_back(i);
    }
    return disks;
}

}  // namespace microinfer::runtime
