#include "archive.hpp"

#include <microinfer/mapper.hpp>

#include <caffe2/serialize/inline_container.h>

namespace microinfer::runtime {

std::string read_record(const std::string& path, const std::string& name) {
    caffe2::serialize::PyTorchStreamReader reader(path);
    if (!reader.hasRecord(name)) {
        throw FileError(path + ": its record " + name + " is missing: export the model anew");
    }
    std::string bytes(reader.getRecordSize(name), '\0');
    reader.getRecord(name, bytes.data(), bytes.size());
    return bytes;
}

}  // namespace microinfer::runtime
