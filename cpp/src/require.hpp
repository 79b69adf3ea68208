/// Checks of what callers hand over.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace microinfer {

inline void require(bool condition, const std::string& message) {
    if (!condition) {
        throw std::invalid_argument(message);
    }
}

/// Checks an entry; the message is `rule` and what came instead.
template <typename T>
void require(bool condition, const char* rule, T value) {
    if (!condition) {
        std::ostringstream message;
        message << rule << ", got " << value;
        throw std::invalid_argument(message.str());
    }
}

}  // namespace microinfer
