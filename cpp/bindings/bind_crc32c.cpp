#include "bindings.hpp"
#include "selfheal/base/crc32c.hpp"

namespace {

using namespace selfheal::python;

constexpr std::size_t kLargeBytes = 65536;  // from here on a lock hand-over costs little beside

std::uint32_t checksum(py::handle object, std::uint32_t value) {
  const selfheal::python::HeldBuffer buffer(object, "buffer", false);
  const std::span<const std::byte> bytes = buffer.bytes();
  if (bytes.size() < kLargeBytes) return selfheal::crc32c(bytes, value);
  const selfheal::python::ReleasedGil released;
  return selfheal::crc32c(bytes, value);
}

}  // namespace

void bind_crc32c(py::module_& m) {
  define_function(m, "crc32c", &checksum, arg("buffer"), arg("value") = 0,
                  "Compute the CRC-32C of a buffer, continuing from `value`.");
  define_function(m, "crc32c_backend", &selfheal::crc32c_backend, "Name the backend in use.");
  define_function(
      m, "crc32c_backends",
      [] {
        const auto names = selfheal::crc32c_backends();
        return std::vector<std::string>(names.begin(), names.end());
      },
      "Name the backends that this machine can run, fastest first.");
  define_function(
      m, "set_crc32c_backend",
      [](const std::string& name) {
        if (selfheal::set_crc32c_backend(name)) return;
        std::string expected = "one of";
        for (const auto backend : selfheal::crc32c_backends()) {
          expected.append(" '").append(backend).append("'");
        }
        selfheal::refuse("name", expected, selfheal::quoted(name));
      },
      arg("name"), "Switch the backend, for tests and measurements.");
}
