#include "sealed_file.hpp"

#include "sha256.hpp"

#include <microinfer/mapper.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

namespace microinfer::runtime {
namespace {

constexpr std::size_t kDigits = 64;
constexpr std::size_t kLongestSeal = 256;
constexpr std::size_t kPiece = 1U << 20U;  // bytes read at a time
const std::string kBegin = "microinfer export ";

std::string read_all(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes;
    std::vector<char> piece(kPiece);
    while (file) {
        file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
        bytes.append(piece.data(), static_cast<std::size_t>(file.gcount()));
    }
    if (!file.eof()) {
        throw FileError(path + ": cannot read the file: " + std::strerror(errno));
    }
    return bytes;
}

}  // namespace

std::string verified_format(const std::string& path) {
    const std::string bytes = read_all(path);
    const std::string end = bytes.substr(bytes.size() - std::min(bytes.size(), kLongestSeal));
    const std::size_t begin = end.rfind(kBegin);
    if (begin == std::string::npos) {
        throw FileError(path + ": no seal at its end: not written by `microinfer export`, or cut short");
    }
    std::istringstream seal(end.substr(begin + kBegin.size()));
    int version = 0;
    std::string format;
    std::string algorithm;
    std::string digits;
    seal >> version;
    if (seal && version != kFileVersion) {
        throw FileError(path + ": a file of version " + std::to_string(version) +
                        ", this library reads version " + std::to_string(kFileVersion) + ": " +
                        (version > kFileVersion ? "update microinfer, or " : "") + "export the model anew");
    }
    seal >> format >> algorithm >> digits;
    if (!seal || algorithm != "sha256" || digits.size() != kDigits || seal.peek() != EOF) {
        throw FileError(path + ": damaged: its seal cannot be read; export the model anew");
    }
    Sha256 sum;
    sum.add(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size() - kDigits);
    if (sum.digest() != digits) {
        throw FileError(path + ": damaged: its checksum differs; copy it or export the model anew");
    }
    return format;
}

}  // namespace microinfer::runtime
