/// The records of an exported file, which is an archive in torch's form.
#pragma once

#include <string>

namespace microinfer::runtime {

/// The bytes of a record in a verified file. Throws FileError where it is missing, and what torch throws
/// where the file is no archive.
std::string read_record(const std::string& path, const std::string& name);

}  // namespace microinfer::runtime
