/// CRC-32 as zlib and PNG have it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace microinfer {

namespace crc32_tables {

/// Eight tables, so that eight bytes are taken at once: table k is for a byte that k others follow.
constexpr std::array<std::array<std::uint32_t, 256>, 8> make() {
    std::array<std::array<std::uint32_t, 256>, 8> tables{};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) {
            value = value >> 1U ^ ((value & 1U) != 0 ? 0xedb88320U : 0U);
        }
        tables[0][byte] = value;
    }
    for (std::size_t k = 1; k < tables.size(); ++k) {
        for (std::size_t byte = 0; byte < 256; ++byte) {
            const std::uint32_t value = tables[k - 1][byte];
            tables[k][byte] = value >> 8U ^ tables[0][value & 0xffU];
        }
    }
    return tables;
}

inline constexpr auto kTables = make();

}  // namespace crc32_tables

/// The checksum of what `before` is that of, and these bytes behind it.
inline std::uint32_t crc32(std::string_view bytes, std::uint32_t before = 0) {
    const auto& tables = crc32_tables::kTables;
    const auto byte = [&](std::size_t i) { return std::uint32_t{static_cast<unsigned char>(bytes[i])}; };
    std::uint32_t value = ~before;
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
        value ^= byte(i) | byte(i + 1) << 8U | byte(i + 2) << 16U | byte(i + 3) << 24U;
        value = tables[7][value & 0xffU] ^ tables[6][value >> 8U & 0xffU] ^ tables[5][value >> 16U & 0xffU] ^
                tables[4][value >> 24U] ^ tables[3][byte(i + 4)] ^ tables[2][byte(i + 5)] ^
                tables[1][byte(i + 6)] ^ tables[0][byte(i + 7)];
    }
    for (; i < bytes.size(); ++i) {
        value = value >> 8U ^ tables[0][(value ^ byte(i)) & 0xffU];
    }
    return ~value;
}

}  // namespace microinfer
