// Numbers and logic.
#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/bake/hcl/functions.h"
#include "store/base/status_macros.h"

namespace kiln::client::hcl {
namespace {

using List = Value::List;

absl::StatusOr<Value> Finite(double number) {
  if (!std::isfinite(number)) return absl::InvalidArgumentError("the result is no number");
  return Value(number);
}

template <double (*kFunction)(double)>
absl::StatusOr<Value> Unary(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const double a, arguments[0].ToNumber());
  return Finite(kFunction(a));
}

template <typename Result, Result (*kFunction)(double, double)>
absl::StatusOr<Value> Binary(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const double a, arguments[0].ToNumber());
  KILN_ASSIGN_OR_RETURN(const double b, arguments[1].ToNumber());
  if constexpr (std::is_same_v<Result, bool>) {
    return Value(kFunction(a, b));
  } else {
    return Finite(kFunction(a, b));
  }
}

double Absolute(double a) { return std::fabs(a); }
double Ceil(double a) { return std::ceil(a); }
double Floor(double a) { return std::floor(a); }
double Truncate(double a) { return std::trunc(a); }
double Negate(double a) { return -a; }
double Signum(double a) { return a < 0 ? -1 : a > 0 ? 1 : 0; }
double Add(double a, double b) { return a + b; }
double Subtract(double a, double b) { return a - b; }
double Multiply(double a, double b) { return a * b; }
double Divide(double a, double b) { return a / b; }
double Modulo(double a, double b) { return std::fmod(a, b); }
double Power(double a, double b) { return std::pow(a, b); }
double Log(double a, double base) { return std::log(a) / std::log(base); }
bool Greater(double a, double b) { return a > b; }
bool GreaterOrEqual(double a, double b) { return a >= b; }
bool Less(double a, double b) { return a < b; }
bool LessOrEqual(double a, double b) { return a <= b; }

template <bool kMax>
absl::StatusOr<Value> Extreme(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(double result, arguments[0].ToNumber());
  for (const Value& argument : arguments) {
    KILN_ASSIGN_OR_RETURN(const double number, argument.ToNumber());
    result = kMax ? std::max(result, number) : std::min(result, number);
  }
  return Value(result);
}

absl::StatusOr<Value> ParseInt(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const std::string text, arguments[0].ToString());
  KILN_ASSIGN_OR_RETURN(const double base, arguments[1].ToNumber());
  if (base < 2 || base > 36) return absl::InvalidArgumentError("the base must be 2 to 36");
  double number = 0;
  const bool negative = !text.empty() && text[0] == '-';
  for (size_t i = negative ? 1 : 0; i < text.size(); ++i) {
    const char c = absl::ascii_tolower(text[i]);
    const int digit = absl::ascii_isdigit(c) ? c - '0' : absl::ascii_isalpha(c) ? c - 'a' + 10 : 99;
    if (digit >= base)
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no number of that base"));
    number = number * base + digit;
  }
  if (text.size() == (negative ? 1u : 0u)) return absl::InvalidArgumentError("no digits");
  if (number > 9007199254740992.0) return absl::InvalidArgumentError("the number is too large");
  return Value(negative ? -number : number);
}

absl::StatusOr<Value> Not(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const bool a, arguments[0].ToBool());
  return Value(!a);
}

template <bool kAnd>
absl::StatusOr<Value> Logic(const List& arguments) {
  KILN_ASSIGN_OR_RETURN(const bool a, arguments[0].ToBool());
  KILN_ASSIGN_OR_RETURN(const bool b, arguments[1].ToBool());
  return Value(kAnd ? a && b : a || b);
}

absl::StatusOr<Value> Equal(const List& arguments) { return Value(arguments[0] == arguments[1]); }
absl::StatusOr<Value> NotEqual(const List& arguments) {
  return Value(arguments[0] != arguments[1]);
}

constexpr LibraryFunction kFunctions[] = {
    {"absolute", 1, 1, Unary<Absolute>},
    {"add", 2, 2, Binary<double, Add>},
    {"and", 2, 2, Logic<true>},
    {"ceil", 1, 1, Unary<Ceil>},
    {"divide", 2, 2, Binary<double, Divide>},
    {"equal", 2, 2, Equal},
    {"floor", 1, 1, Unary<Floor>},
    {"greaterthan", 2, 2, Binary<bool, Greater>},
    {"greaterthanorequalto", 2, 2, Binary<bool, GreaterOrEqual>},
    {"int", 1, 1, Unary<Truncate>},
    {"lessthan", 2, 2, Binary<bool, Less>},
    {"lessthanorequalto", 2, 2, Binary<bool, LessOrEqual>},
    {"log", 2, 2, Binary<double, Log>},
    {"max", 1, kAnyNumber, Extreme<true>},
    {"min", 1, kAnyNumber, Extreme<false>},
    {"modulo", 2, 2, Binary<double, Modulo>},
    {"multiply", 2, 2, Binary<double, Multiply>},
    {"negate", 1, 1, Unary<Negate>},
    {"not", 1, 1, Not},
    {"notequal", 2, 2, NotEqual},
    {"or", 2, 2, Logic<false>},
    {"parseint", 2, 2, ParseInt},
    {"pow", 2, 2, Binary<double, Power>},
    {"signum", 1, 1, Unary<Signum>},
    {"subtract", 2, 2, Binary<double, Subtract>},
};

}  // namespace

absl::Span<const LibraryFunction> NumberFunctions() { return kFunctions; }

}  // namespace kiln::client::hcl
