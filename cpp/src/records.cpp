#include <microinfer/records.hpp>

#include <cstring>
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

void gather_column(const VariableLengthRecord* records, std::int64_t count, std::size_t item_size,
                   std::size_t position, double* column) {
    for (std::int64_t i = 0; i < count; ++i) {
        const std::byte* value = records[i].items + (records[i].length > 0 ? position : 0);
        for (std::size_t item = 0; item < records[i].length; ++item, value += item_size) {
            std::memcpy(column++, value, sizeof(double));  // items need not be aligned
        }
    }
}

}  // namespace microinfer
