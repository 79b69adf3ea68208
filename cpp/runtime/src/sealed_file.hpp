/// The seal at the end of an exported file: what the file is, and the checksum of all that stands before it.
#pragma once

#include <string>

namespace microinfer::runtime {

/// Version of the exported files that this library reads.
inline constexpr int kFileVersion = 2;

/// Verifies a file's seal, "microinfer export <version> <format> sha256 <digits>", and returns the format.
/// Throws FileError where the file is missing, has no seal, is of another version, or differs from its
/// checksum.
std::string verified_format(const std::string& path);

}  // namespace microinfer::runtime
