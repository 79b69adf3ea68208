#include "json.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace microinfer::runtime {
namespace {

constexpr int kDeepest = 64;  // nested values; a damaged text must not exhaust the stack

}  // namespace

class JsonReader {
  public:
    explicit JsonReader(std::string_view text) : text_(text) { number_.imbue(std::locale::classic()); }

    Json read() {
        Json value = read_value(0);
        skip_space();
        if (at_ != text_.size()) {
            fail("nothing more was expected");
        }
        return value;
    }

  private:
    [[noreturn]] void fail(const std::string& what) const {
        throw std::runtime_error("JSON: " + what + ", at byte " + std::to_string(at_));
    }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) {
            ++at_;
        }
    }

    /// Takes the next character if it is this one.
    bool take(char expected) {
        skip_space();
        if (at_ < text_.size() && text_[at_] == expected) {
            ++at_;
            return true;
        }
        return false;
    }

    void expect(char expected) {
        if (!take(expected)) {
            fail(std::string("'") + expected + "' was expected");
        }
    }

    bool take_word(std::string_view word) {
        if (text_.substr(at_, word.size()) == word) {
            at_ += word.size();
            return true;
        }
        return false;
    }

    Json read_value(int depth) {
        if (depth > kDeepest) {
            fail("too many values inside each other");
        }
        Json value;
        skip_space();
        if (take('{')) {
            value.value_ = read_object(depth);
        } else if (take('[')) {
            value.value_ = read_array(depth);
        } else if (take('"')) {
            value.value_ = read_string();
        } else if (take_word("true")) {
            value.value_ = true;
        } else if (take_word("false")) {
            value.value_ = false;
        } else if (!take_word("null")) {
            value.value_ = read_number();
        }
        return value;
    }

    Json::Object read_object(int depth) {
        Json::Object object;
        if (take('}')) {
            return object;
        }
        do {
            expect('"');
            std::string name = read_string();
            expect(':');
            object.insert_or_assign(std::move(name), read_value(depth + 1));
        } while (take(','));
        expect('}');
        return object;
    }

    Json::Array read_array(int depth) {
        Json::Array array;
        if (take(']')) {
            return array;
        }
        do {
            array.push_back(read_value(depth + 1));
        } while (take(','));
        expect(']');
        return array;
    }

    double read_number() {
        const std::size_t end = std::min(text_.find_first_not_of("+-.0123456789eE", at_), text_.size());
        number_.clear();
        number_.str(std::string(text_.substr(at_, end - at_)));
        double number = 0.0;
        if (!(number_ >> number) || number_.peek() != EOF) {
            fail("a value was expected");
        }
        at_ = end;
        return number;
    }

    std::string read_string() {
        std::string string;
        while (at_ < text_.size() && text_[at_] != '"') {
            string += text_[at_] == '\\' ? read_escape() : std::string(1, text_[at_++]);
        }
        if (at_ == text_.size()) {
            fail("a string does not end");
        }
        ++at_;
        return string;
    }

    std::string read_escape() {
        constexpr std::string_view names = "\"\\/bfnrt";
        constexpr std::string_view meanings = "\"\\/\b\f\n\r\t";
        const char name = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
        at_ += 2;
        if (name == 'u') {
            return utf8(read_code_point());
        }
        const std::size_t which = names.find(name);
        if (which == std::string_view::npos) {
            fail("an unknown escape");
        }
        return std::string(1, meanings[which]);
    }

    std::uint32_t read_unit() {
        std::uint32_t unit = 0;
        for (int i = 0; i < 4; ++i) {
            const std::size_t digit = at_ < text_.size()
                                          ? std::string_view("0123456789abcdefABCDEF").find(text_[at_])
                                          : std::string_view::npos;
            if (digit == std::string_view::npos) {
                fail("four hexadecimal digits were expected");
            }
            unit = 16 * unit + static_cast<std::uint32_t>(digit < 16 ? digit : digit - 6);
            ++at_;
        }
        return unit;
    }

    std::uint32_t read_code_point() {
        const std::uint32_t unit = read_unit();
        if (unit < 0xD800 || unit > 0xDFFF) {
            return unit;
        }
        const bool paired = unit < 0xDC00 && take_word("\\u");
        const std::uint32_t low = paired ? read_unit() : 0;
        if (low < 0xDC00 || low > 0xDFFF) {
            fail("half of a surrogate pair");
        }
        return 0x10000 + ((unit - 0xD800) << 10U) + (low - 0xDC00);
    }

    static std::string utf8(std::uint32_t code) {
        if (code < 0x80) {
            return std::string(1, static_cast<char>(code));
        }
        std::string bytes;
        while (code > (bytes.empty() ? 0x3FU : bytes.size() == 1 ? 0x1FU : 0xFU >> (bytes.size() - 2))) {
            bytes.insert(bytes.begin(), static_cast<char>(0x80U | (code & 0x3FU)));
            code >>= 6U;
        }
        const std::uint32_t lead = bytes.size() == 1 ? 0xC0U : bytes.size() == 2 ? 0xE0U : 0xF0U;
        return std::string(1, static_cast<char>(lead | code)) + bytes;
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::istringstream number_;  // not strtod: that reads as the program's locale has it
};

Json Json::parse(std::string_view text) {
    return JsonReader(text).read();
}

const Json& Json::operator[](const std::string& name) const {
    const auto found = object().find(name);
    if (found == object().end()) {
        throw std::runtime_error("the entry '" + name + "' is missing");
    }
    return found->second;
}

const Json::Object& Json::object() const {
    if (const Object* const object = std::get_if<Object>(&value_)) {
        return *object;
    }
    throw std::runtime_error("an object was expected");
}

const Json::Array& Json::array() const {
    if (const Array* const array = std::get_if<Array>(&value_)) {
        return *array;
    }
    throw std::runtime_error("a list was expected");
}

const std::string& Json::string() const {
    if (const std::string* const string = std::get_if<std::string>(&value_)) {
        return *string;
    }
    throw std::runtime_error("a string was expected");
}

double Json::number() const {
    if (const double* const number = std::get_if<double>(&value_)) {
        return *number;
    }
    throw std::runtime_error("a number was expected");
}

std::int64_t Json::integer() const {
    constexpr double first_unsafe = 9007199254740992.0;  // 2^53: from here on, doubles skip integers
    const double value = number();
    if (std::trunc(value) != value || std::abs(value) >= first_unsafe) {
        throw std::runtime_error("a whole number was expected");
    }
    return static_cast<std::int64_t>(value);
}

}  // namespace microinfer::runtime
