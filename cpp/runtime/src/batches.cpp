#include "batches.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

namespace microinfer::runtime {
std::vector<Batch> batches(const std::vector<std::int64_t>& count, const BatchLimits& limits) {
    const auto count_of = [&](std::int64_t i) { return count[static_cast<std::size_t>(i)]; };
    std::vector<std::int64_t> order(count.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return count_of(a) < count_of(b); });

    // Where the runs of equal length end; a batch is some runs in a row.
    std::vector<std::size_t> ends{0};
    for (std::size_t i = 1; i <= order.size(); ++i) {
        if (i == order.size() || count_of(order[i]) != count_of(order[i - 1])) {
            ends.push_back(i);
        }
    }
    // cheapest[j]: the least cost of the runs before j; from[j]: where the last of their batches begins.
    std::vector<std::int64_t> cheapest(ends.size(), std::numeric_limits<std::int64_t>::max());
    std::vector<std::size_t> from(ends.size(), 0);
    cheapest[0] = 0;
    for (std::size_t j = 1; j < ends.size(); ++j) {
        const std::int64_t length = count_of(order[ends[j] - 1]);
        for (std::size_t i = 0; i < j; ++i) {
            const auto size = static_cast<std::int64_t>(ends[j] - ends[i]);
            const std::int64_t cost = cheapest[i] + limits.call + size * length;
            if (cost < cheapest[j]) {
                cheapest[j] = cost;
                from[j] = i;
            }
        }
    }
    std::vector<Batch> result;
    for (std::size_t j = ends.size() - 1; j > 0; j = from[j]) {
        for (std::size_t first = ends[from[j]]; first < ends[j];) {
            const std::size_t last = std::min(ends[j], first + static_cast<std::size_t>(limits.largest));
            result.push_back({{order.begin() + static_cast<std::ptrdiff_t>(first),
                               order.begin() + static_cast<std::ptrdiff_t>(last)},
                              count_of(order[last - 1])});
            first = last;
        }
    }
    return result;
}

}  // namespace microinfer::runtime
