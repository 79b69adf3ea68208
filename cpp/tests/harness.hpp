/// A test is a function that throws where something is wrong.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace microinfer::tests {

/// Registers a test under its name; returns a number so that a global can call it.
int add(const char* name, void (*test)());

/// Fails the test unless the condition holds.
inline void expect(bool condition, const std::string& message) {
    if (!condition) {
        throw std::runtime_error(message);
    }
}

/// Fails the test unless both are equal.
template <typename A, typename B>
void expect_equal(const A& found, const B& expected, const std::string& what) {
    std::ostringstream text;
    text << what << ": found " << found << ", expected " << expected;
    expect(found == expected, text.str());
}

/// Fails the test unless `call` throws an Error whose message contains `part`.
template <typename Error, typename Call>
void expect_throws(const Call& call, const std::string& part) {
    try {
        call();
    } catch (const Error& error) {
        expect(std::string(error.what()).find(part) != std::string::npos,
               std::string("the message '") + error.what() + "' does not contain '" + part + "'");
        return;
    }
    throw std::runtime_error("nothing was thrown; expected '" + part + "'");
}

}  // namespace microinfer::tests

/// Defines a test.
#define MICROINFER_TEST(name)                                                    \
    static void name();                                                          \
    static const int name##_registered = ::microinfer::tests::add(#name, &name); \
    static void name()
