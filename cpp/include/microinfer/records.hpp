/// Variable-length records of an HDF5 file, read from its global heap without HDF5, which trusts what stands
/// there: a heap collection with an object of no size keeps it busy for ever, an object longer than its
/// record overwrites memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace microinfer {

/// Bytes of a reference in a file whose addresses have eight of them.
inline constexpr std::size_t kReferenceBytes = 16;

/// A file that does not hold what it must; the message says what, not which file.
class DamagedFile : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// What an element of a variable-length dataset is in the file: where a list lies.
struct HeapReference {
    /// Number of items.
    std::uint32_t length;
    /// Of the object in its collection.
    std::uint32_t index;
    /// Of the collection, in bytes behind the file's base address; 0 for no list.
    std::uint64_t address;
};

/// Reads a reference from its bytes.
HeapReference heap_reference(const unsigned char* bytes);

/// Writes where each list begins among all their items: (count + 1,), from 0 to the number of items.
/// Throws DamagedFile where a list has items but no address, or the file is too short for all items.
void list_offsets(const HeapReference* references, std::int64_t count, std::size_t item_bytes,
                  std::uint64_t file_bytes, std::int64_t* offsets);

/// Reads the items of all lists, one behind the other, from a file that is open as `descriptor` and whose
/// addresses count from `base` on. Each collection is read once. Throws DamagedFile where a collection is not
/// whole or has no object of the list's size.
void read_lists(int descriptor, std::uint64_t base, const HeapReference* references, std::int64_t count,
                std::size_t item_bytes, const std::int64_t* offsets, unsigned char* items);

/// Throws DamagedFile unless a whole collection stands at a place of the file, in bytes from its beginning:
/// what HDF5 may read.
void require_collection(int descriptor, std::uint64_t place);

}  // namespace microinfer
