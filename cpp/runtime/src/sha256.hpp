/// The SHA-256 checksum (FIPS 180-4).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace microinfer::runtime {

/// Computes a checksum piece by piece.
class Sha256 {
  public:
    /// Adds `size` bytes.
    void add(const unsigned char* bytes, std::size_t size);

    /// The checksum of all bytes added, as 64 lower-case hexadecimal digits. Nothing may be added after it.
    std::string digest();

  private:
    void mix(const unsigned char* block);

    std::array<std::uint32_t, 8> state_ = {0x6a09e667U, 0xbb67ae85U, 0x3c6ef372U, 0xa54ff53aU,
                                           0x510e527fU, 0x9b05688cU, 0x1f83d9abU, 0x5be0cd19U};
    std::array<unsigned char, 64> block_{};
    std::uint64_t size_ = 0;
};

}  // namespace microinfer::runtime
