#include <microinfer/records.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace microinfer {

namespace {

// HDF5's format specification, III.E "Disk format: level 1E - Global heap".
constexpr std::string_view kSignature = "GCOL";
constexpr unsigned char kVersion = 1;
constexpr std::uint64_t kHeader = 16;  // of a collection and of an object
constexpr std::uint64_t kSmallest = 4096;

/// The little-endian number at `bytes`.
template <typename T>
T number(const unsigned char* bytes) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        value = static_cast<T>(value | static_cast<T>(bytes[i]) << (8 * i));
    }
    return value;
}

/// Reads `count` bytes from a place of the file on; fewer where it ends.
std::uint64_t read_bytes(int descriptor, std::uint64_t place, std::uint64_t count, unsigned char* bytes) {
    std::uint64_t done = 0;
    while (done < count) {
        const auto got = pread(descriptor, bytes + done, count - done, static_cast<off_t>(place + done));
        if (got <= 0) {
            break;
        }
        done += static_cast<std::uint64_t>(got);
    }
    return done;
}

std::uint64_t file_size(int descriptor) {
    struct stat status{};
    return fstat(descriptor, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}

/// A collection of the heap, whose buffers serve one collection after another.
class Collection {
  public:
    struct Object {
        std::uint64_t begin = 0;  // 0: there is none
        std::uint64_t size = 0;
    };

    void read(int descriptor, std::uint64_t place);

    /// An object without its header. Throws DamagedFile unless it is there and has that many bytes.
    const unsigned char* object(std::uint32_t index, std::uint64_t size) const {
        if (index == 0 || index >= objects_.size() || objects_[index].begin == 0) {
            fail("has no object " + std::to_string(index));
        }
        if (objects_[index].size != size) {
            fail("has " + std::to_string(objects_[index].size) + " bytes in object " + std::to_string(index) +
                 " in place of " + std::to_string(size));
        }
        return bytes_.data() + objects_[index].begin;
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw DamagedFile("the heap collection at byte " + std::to_string(place_) + " " + what);
    }

    std::uint64_t place_ = 0;
    std::vector<unsigned char> bytes_;
    std::vector<Object> objects_;
};

void Collection::read(int descriptor, std::uint64_t place) {
    place_ = place;
    const std::uint64_t file_bytes = file_size(descriptor);
    if (place > file_bytes || file_bytes - place < kSmallest) {
        fail("does not lie in the file");
    }
    bytes_.resize(kSmallest);
    if (read_bytes(descriptor, place, kSmallest, bytes_.data()) < kSmallest) {
        fail("cannot be read");
    }
    if (std::memcmp(bytes_.data(), kSignature.data(), kSignature.size()) != 0 || bytes_[4] != kVersion) {
        fail("does not begin as one");
    }
    const auto size = number<std::uint64_t>(bytes_.data() + 8);
    if (size < kSmallest || size > file_bytes - place) {
        fail("has a size of " + std::to_string(size) + " bytes");
    }
    bytes_.resize(size);
    const std::uint64_t rest = size - kSmallest;
    if (read_bytes(descriptor, place + kSmallest, rest, bytes_.data() + kSmallest) < rest) {
        fail("cannot be read");
    }
    objects_.clear();
    std::uint64_t at = kHeader;
    while (size - at >= kHeader) {  // what is too small for a header is free
        const auto index = number<std::uint16_t>(bytes_.data() + at);
        const auto length = number<std::uint64_t>(bytes_.data() + at + 8);
        const std::uint64_t room = size - at;
        // The free space, object 0, counts its header. Others do not, and are padded to eight bytes; empty
        // texts are of no size.
        const bool fits = index == 0 ? length >= kHeader && length <= room
                                     : length <= room - kHeader && (length + 7) / 8 * 8 <= room - kHeader;
        if (!fits) {
            fail("has an object of " + std::to_string(length) + " bytes, " + std::to_string(room) +
                 " before its end");
        }
        if (index >= objects_.size()) {
            objects_.resize(index + std::size_t{1});
        }
        if (index > 0 && objects_[index].begin > 0) {
            fail("has the object " + std::to_string(index) + " twice");
        }
        objects_[index] = {at + kHeader, length};
        at += index == 0 ? length : kHeader + (length + 7) / 8 * 8;
    }
}

}  // namespace

HeapReference heap_reference(const unsigned char* bytes) {
    return {number<std::uint32_t>(bytes), number<std::uint32_t>(bytes + 12),
            number<std::uint64_t>(bytes + 4)};
}

void list_offsets(const HeapReference* references, std::int64_t count, std::size_t item_bytes,
                  std::uint64_t file_bytes, std::int64_t* offsets) {
    const std::uint64_t most = file_bytes / item_bytes;
    std::uint64_t total = 0;
    offsets[0] = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        if (references[i].length > 0 && references[i].address == 0) {
            throw DamagedFile("list " + std::to_string(i) + " has " + std::to_string(references[i].length) +
                              " items but no address");
        }
        total += references[i].length;
        if (total > most) {
            throw DamagedFile("list " + std::to_string(i) + " has " + std::to_string(references[i].length) +
                              " items, more than the file can hold");
        }
        offsets[i + 1] = static_cast<std::int64_t>(total);
    }
}

void read_lists(int descriptor, std::uint64_t base, const HeapReference* references, std::int64_t count,
                std::size_t item_bytes, const std::int64_t* offsets, unsigned char* items) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::erase_if(order, [&](std::int64_t i) { return references[i].length == 0; });
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
        return references[a].address < references[b].address;
    });
    Collection collection;
    std::uint64_t address = 0;
    for (const std::int64_t i : order) {
        const HeapReference& reference = references[i];
        if (reference.address != address) {
            address = reference.address;
            collection.read(descriptor, base + address);
        }
        const std::uint64_t size = std::uint64_t{reference.length} * item_bytes;
        std::memcpy(items + static_cast<std::size_t>(offsets[i]) * item_bytes,
                    collection.object(reference.index, size), size);
    }
}

void require_collection(int descriptor, std::uint64_t place) {
    Collection collection;
    collection.read(descriptor, place);
}

}  // namespace microinfer
