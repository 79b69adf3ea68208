#include <microinfer/records.hpp>

#include <limits>
#include <stdexcept>
#include <string>

namespace microinfer {

void record_offsets(const VariableLengthRecord* records, std::int64_t count, std::int64_t* offsets) {
    constexpr auto largest = std::numeric_limits<std::int64_t>::max();
    std::int64_t total = 0;
    offsets[0] = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const auto& record = records[i];
        if (record.length > 0 && record.items == nullptr) {
            throw std::invalid_argument("records[" + std::to_string(i) + "] has " +
                                        std::to_string(record.length) + " items but no address");
        }
        if (record.length > static_cast<std::size_t>(largest - total)) {
            throw std::invalid_argument("records[" + std::to_string(i) + "] has " +
                                        std::to_string(record.length) + " items, too many to count");
        }
        total += static_cast<std::int64_t>(record.length);
        offsets[i + 1] = total;
    }
}

void gather_records(const VariableLengthRecord* records, std::int64_t count, std::int64_t width,
                    const std::int64_t* offsets, double* columns) {
    const std::int64_t items = offsets[count];
    for (std::int64_t i = 0; i < count; ++i) {
        const double* value = records[i].items;
        for (std::int64_t item = offsets[i]; item < offsets[i + 1]; ++item) {
            for (std::int64_t column = 0; column < width; ++column) {
                columns[column * items + item] = *value++;
            }
        }
    }
}

}  // namespace microinfer
