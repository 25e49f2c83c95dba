#include "bindings.hpp"
#include "held.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

std::vector<std::uint32_t> check(HeldImage& self, std::int64_t first,
                                 std::optional<std::int64_t> count) {
  const WeightImage& image = self.get();
  const BlockRange range = block_range(image, first, count);
  std::vector<std::uint32_t> corrupt(range.count);
  const auto buffer = self.buffer();
  const selfheal::python::ReleasedGil released;
  corrupt.resize(image.check(range.first, range.count, corrupt));
  return corrupt;
}

void write_bytes(HeldImage& self, std::int64_t offset, py::handle data) {
  WeightImage& image = self.get();
  const HeldBuffer buffer(data, "data", false);
  const std::size_t begin = to_size("offset", offset);
  check_byte_range(image, begin, buffer.bytes().size());
  if (!image.write(begin, buffer.bytes())) {
    throw std::runtime_error("write: expected sound blocks around the change, got a corrupt one");
  }
}

std::vector<std::string> block_regions(HeldImage& self, std::int64_t block) {
  const WeightImage& image = self.get();
  const std::size_t index = to_size("block", block);
  if (index >= image.block_count()) {
    refuse("block", "below block_count = " + std::to_string(image.block_count()), index);
  }
  std::vector<std::uint32_t> found(image.regions().size());
  found.resize(image.regions_of_block(index, found));
  std::vector<std::string> names;
  names.reserve(found.size());
  for (const std::uint32_t i : found) names.push_back(image.regions()[i].name);
  return names;
}

std::pair<std::size_t, std::size_t> region_blocks(HeldImage& self, const std::string& name) {
  const WeightImage& image = self.get();
  for (std::size_t i = 0; i < image.regions().size(); ++i) {
    if (image.regions()[i].name != name) continue;
    const BlockRange range = image.blocks_of_region(i);
    return {range.first, range.count};
  }
  throw py::key_error("name: expected the name of a region, got '" + name + "'");
}

std::vector<RegionTuple> regions(HeldImage& self) {
  std::vector<RegionTuple> list;
  for (const Region& region : self.get().regions()) {
    list.emplace_back(region.name, region.module, static_cast<std::int64_t>(region.offset),
                      static_cast<std::int64_t>(region.nbytes));
  }
  return list;
}

template <auto kMember>
auto of_image(HeldImage& self) {
  return (self.get().*kMember)();
}

}  // namespace

void bind_weight_image(py::module_& m) {
  Class<HeldImage, std::shared_ptr<HeldImage>>(m, "WeightImage",
                                               "Live weights with the hashes they should have.")
      .def(constructor<py::handle, const std::vector<RegionTuple>&, std::int64_t,
                       const std::optional<py::bytes>&>(),
           arg("buffer"), arg("regions") = kNoItems, arg("block_bytes") = 512, arg("key") = nullptr)
      .def_property_readonly("nbytes", &of_image<&WeightImage::nbytes>, "Bytes of the image.")
      .def_property_readonly("block_bytes", &of_image<&WeightImage::block_bytes>, "Bytes a block.")
      .def_property_readonly("block_count", &of_image<&WeightImage::block_count>, "Blocks.")
      .def_property_readonly("regions", &regions, "(name, module, offset, nbytes) of each region.")
      .def("check", &check, arg("first") = 0, arg("count") = nullptr,
           "List the corrupt blocks of a range.")
      .def("block_regions", &block_regions, arg("block"), "Name the regions in a block.")
      .def("region_blocks", &region_blocks, arg("name"), "(first, count) of a region's blocks.")
      .def("write", &write_bytes, arg("offset"), arg("data"), "Change bytes on purpose.")
      .def("rebind", &HeldImage::rebind, arg("buffer"), "Follow the same content elsewhere.")
      .def(
          "table_memory",
          [](const py::object& self) {
            WeightImage& image = self.cast<HeldImage&>().get();
            return py::make_tuple(writable(image.table().bytes(), self),
                                  writable(image.kept_key().copies(), self));
          },
          "Hashes and the key's copies, writable: for tests that damage them.")
      .def("table_ok", &of_image<&WeightImage::table_ok>, "Whether table and key are undamaged.")
      .def("release", &HeldImage::release, "Drop the buffer; later calls raise ValueError.")
      .def_property_readonly("released", &HeldImage::is_released, "Whether release() was called.")
      .def("memory_bytes", &HeldImage::memory_bytes, "Bytes held, fixed at construction.");
}
