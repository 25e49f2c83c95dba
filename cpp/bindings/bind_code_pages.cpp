#include "bindings.hpp"
#include "code_pages.hpp"
#include "held.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;
using selfheal::runtime::CodePages;

py::list step(CodePages& self, std::int64_t nbytes) {
  const std::size_t size = to_size("nbytes", nbytes);
  std::vector<CodePages::Damage> found;
  {
    const selfheal::python::ReleasedGil released;
    found = self.step(size);
  }
  py::list list;
  for (const CodePages::Damage& one : found) {
    list.append(py::make_tuple(one.path, one.offset, one.address, one.symbol, one.wrong_bytes));
  }
  return list;
}

}  // namespace

void bind_code_pages(py::module_& m) {
  Class<CodePages>(m, "CodePages", "The read-only pages of loaded libraries, watched.")
      .def(constructor(
               [](const std::vector<std::string>& names, const py::bytes& key, std::uint64_t seed) {
                 const HashKey secret = to_key(key);
                 const selfheal::python::ReleasedGil released;
                 return std::make_unique<CodePages>(names, secret, seed);
               }),
           arg("names"), arg("key"), arg("seed"))
      .def("step", &step, arg("nbytes"),
           "Check the next rows; list (path, offset, address, symbol, wrong bytes) of damaged "
           "pages.")
      .def_property_readonly("nbytes", &CodePages::nbytes, "Bytes watched.")
      .def_property_readonly("unproven_bytes", &CodePages::unproven_bytes,
                             "Bytes of these that no file proves.")
      .def_property_readonly("direct_bytes", &CodePages::direct_bytes,
                             "Bytes compared with a file that was read around the page cache.")
      .def_property_readonly("sweeps", &CodePages::sweeps, "Complete rounds.")
      .def("memory_bytes", &CodePages::memory_bytes, "Bytes held, fixed at construction.");
  define_function(m, "code_is_watchable", &CodePages::is_supported,
                  "Whether this system can say what code is mapped.");
}
