/// Flat columns from HDF5's variable-length records.
#pragma once

#include <cstddef>
#include <cstdint>

namespace microinfer {

/// A list of items, each of the same number of doubles, laid out as HDF5's hvl_t. Not owning.
struct VariableLengthRecord {
    /// Number of items.
    std::size_t length;
    /// First item; may be null where length is 0.
    const double* items;
};

/// Writes where each record's items begin in the flat columns: (count + 1,), from 0 to the number of items.
/// Throws std::invalid_argument for a record that has items but no address, or where the sum overflows.
void record_offsets(const VariableLengthRecord* records, std::int64_t count, std::int64_t* offsets);

/// Copies the items of all records, of `width` doubles each, to the columns, row-major (width,
/// offsets[count]).
void gather_records(const VariableLengthRecord* records, std::int64_t count, std::int64_t width,
                    const std::int64_t* offsets, double* columns);

}  // namespace microinfer
