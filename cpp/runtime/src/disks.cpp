#include "disks.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>

namespace microinfer::runtime {

PaddedDisks Disks::view() const {
    return {radius.data(),
            angle.data(),
            intensity.data(),
            count.data(),
            static_cast<std::int64_t>(pattern.size()),
            length};
}

Disks disks_of(const RaggedPeaks& peaks, const TokenSpec& spec) {
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
                std::vector<std::int32_t>(patterns),
                length};
    std::vector<std::int32_t> bins(3 * size);
    const auto mask = std::make_unique<bool[]>(size);
    const auto valid = std::make_unique<bool[]>(patterns);
    tokenize(
        peaks, spec,
        {disks.radius.data(), disks.angle.data(), disks.intensity.data(), bins.data(), bins.data() + size,
         bins.data() + 2 * size, mask.get(), disks.count.data(), valid.get(), length});
    // Valid patterns move up to where invalid ones stand.
    for (std::int64_t i = 0; i < peaks.patterns; ++i) {
        if (!valid[static_cast<std::size_t>(i)]) {
            continue;
        }
        const auto to = static_cast<std::int64_t>(disks.pattern.size());
        for (std::vector<float>* const values : {&disks.radius, &disks.angle, &disks.intensity}) {
            const auto row = values->begin() + i * length;
            std::copy(row, row + length, values->begin() + to * length);
        }
        disks.count[static_cast<std::size_t>(to)] = disks.count[static_cast<std::size_t>(i)];
        disks.pattern.push_back(i);
    }
    return disks;
}

}  // namespace microinfer::runtime
