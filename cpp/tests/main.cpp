#include "harness.hpp"

#include <exception>
#include <iostream>
#include <vector>

namespace microinfer::tests {
namespace {

struct Test {
    const char* name;
    void (*run)();
};

std::vector<Test>& all() {
    static std::vector<Test> tests;
    return tests;
}

}  // namespace

int add(const char* name, void (*test)()) {
    all().push_back({name, test});
    return 0;
}

}  // namespace microinfer::tests

int main() {
    int failed = 0;
    for (const auto& test : microinfer::tests::all()) {
        try {
            test.run();
            std::cout << "passed  " << test.name << '\n';
        } catch (const std::exception& error) {
            ++failed;
            std::cout << "FAILED  " << test.name << ": " << error.what() << '\n';
        }
    }
    std::cout << microinfer::tests::all().size() << " tests, " << failed << " failed\n";
    return failed == 0 ? 0 : 1;
}
