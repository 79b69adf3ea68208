/// Flat columns from HDF5's variable-length records.
#pragma once

#include <cstddef>
#include <cstdint>

namespace microinfer {

/// One variable-length element in memory, laid out as HDF5's hvl_t. Not owning.
struct VariableLengthRecord {
    /// Number of items.
    std::size_t length;
    /// First item; may be null where length is 0.
    const std::byte* items;
};

/// Writes where each record's items begin in the flat columns: (count + 1,), from 0 to the number of items.
/// Throws std::invalid_argument for a record that has items but no address, or where the sum overflows.
void record_offsets(const VariableLengthRecord* records, std::int64_t count, std::int64_t* offsets);

/// Copies one double of every item to `column` (items,), in the order of the records.
/// The double lies `position` bytes into each item of `item_size` bytes.
void gather_column(const VariableLengthRecord* records, std::int64_t count, std::size_t item_size,
                   std::size_t position, double* column);

}  // namespace microinfer
