/// Expecting errors by their type and message.
#pragma once

#include <gtest/gtest.h>

#include <string>

namespace microinfer::tests {

/// Fails the test unless `call` throws an Error whose message contains `part`.
template <typename Error, typename Call>
void expect_throws(const Call& call, const std::string& part) {
    try {
        call();
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
            << "the message '" << error.what() << "' does not contain '" << part << "'";
        return;
    }
    ADD_FAILURE() << "nothing was thrown; expected '" << part << "'";
}

}  // namespace microinfer::tests
