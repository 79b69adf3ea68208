/// Reading JSON (RFC 8259), as much as exported models need.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace microinfer::runtime {

/// A JSON value. Asking for what is not there throws std::runtime_error, which says what is missing.
class Json {
  public:
    using Array = std::vector<Json>;
    using Object = std::map<std::string, Json>;

    /// Reads a text that is one JSON value. Throws std::runtime_error with the place of an error.
    static Json parse(std::string_view text);

    /// The member `name` of an object.
    [[nodiscard]] const Json& operator[](const std::string& name) const;
    [[nodiscard]] const Object& object() const;
    [[nodiscard]] const Array& array() const;
    [[nodiscard]] const std::string& string() const;
    [[nodiscard]] double number() const;
    /// A number without a fraction, below 2^53.
    [[nodiscard]] std::int64_t integer() const;
    [[nodiscard]] bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }

  private:
    friend class JsonReader;
    std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value_ = nullptr;
};

}  // namespace microinfer::runtime
