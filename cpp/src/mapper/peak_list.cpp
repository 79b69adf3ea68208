#include <microinfer/mapper.hpp>

namespace microinfer {

void PeakList::add(const std::vector<Peak>& peaks) {
    if (offsets_.empty()) {
        offsets_.push_back(0);
    }
    for (const Peak& peak : peaks) {
        qx_.push_back(peak.qx);
        qy_.push_back(peak.qy);
        intensity_.push_back(peak.intensity);
    }
    offsets_.push_back(static_cast<std::int64_t>(qx_.size()));
}

RaggedPeaks PeakList::view() const {
    static constexpr std::int64_t nothing = 0;
    return {qx_.data(),
            qy_.data(),
            intensity_.data(),
            offsets_.empty() ? &nothing : offsets_.data(),
            static_cast<std::int64_t>(size()),
            static_cast<std::int64_t>(qx_.size())};
}

}  // namespace microinfer
