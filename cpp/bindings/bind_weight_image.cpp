#include "bindings.hpp"
#include "held.hpp"
#include "selfheal/guard/scrubber.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

using Images = std::shared_ptr<HeldImage>;

struct HeldScrubber {
  Images image;
  Scrubber scrubber;
  std::vector<std::uint32_t> found;
};

std::vector<std::uint32_t> check(HeldImage& self, std::int64_t first,
                                 std::optional<std::int64_t> count, bool keyed) {
  const WeightImage& image = self.get();
  const BlockRange range = block_range(image, first, count);
  std::vector<std::uint32_t> corrupt(range.count);
  const auto buffer = self.buffer();
  const selfheal::python::ReleasedGil released;
  corrupt.resize(image.check(range.first, range.count, corrupt, keyed));
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

py::list step(HeldScrubber& self, std::int64_t budget_bytes) {
  self.image->get();
  const std::size_t budget = to_size("budget_bytes", budget_bytes);
  const std::size_t count = self.scrubber.step(budget, self.found);
  py::list corrupt;
  for (std::size_t i = 0; i < count; ++i) corrupt.append(self.found[i]);
  return corrupt;
}

template <auto kMember>
auto of_image(HeldImage& self) {
  return (self.get().*kMember)();
}

template <auto kMember>
auto of_scrubber(const HeldScrubber& self) {
  return (self.scrubber.*kMember)();
}

}  // namespace

void bind_weight_image(py::module_& m) {
  Class<HeldImage, Images>(m, "WeightImage", "Live weights with the checksums they should have.")
      .def(constructor<py::handle, const std::vector<RegionTuple>&, std::int64_t,
                       const std::optional<py::bytes>&>(),
           arg("buffer"), arg("regions") = kNoItems, arg("block_bytes") = 512, arg("key") = nullptr)
      .def_property_readonly("nbytes", &of_image<&WeightImage::nbytes>, "Bytes of the image.")
      .def_property_readonly("block_bytes", &of_image<&WeightImage::block_bytes>, "Bytes a block.")
      .def_property_readonly("block_count", &of_image<&WeightImage::block_count>, "Blocks.")
      .def_property_readonly("regions", &regions, "(name, module, offset, nbytes) of each region.")
      .def("check", &check, arg("first") = 0, arg("count") = nullptr, arg("keyed") = false,
           "List the corrupt blocks of a range.")
      .def("block_regions", &block_regions, arg("block"), "Name the regions in a block.")
      .def("region_blocks", &region_blocks, arg("name"), "(first, count) of a region's blocks.")
      .def("write", &write_bytes, arg("offset"), arg("data"), "Change bytes on purpose.")
      .def("rebind", &HeldImage::rebind, arg("buffer"), "Follow the same content elsewhere.")
      .def(
          "table_memory",
          [](const py::object& self) {
            WeightImage& image = self.cast<HeldImage&>().get();
            return py::make_tuple(writable(image.table().crc_bytes(), self),
                                  writable(image.table().keyed_bytes(), self),
                                  writable(image.kept_key().copies(), self));
          },
          "Checksums, keyed hashes and the key's copies, writable: for tests that damage them.")
      .def("table_ok", &of_image<&WeightImage::table_ok>, "Whether table and key are undamaged.")
      .def("release", &HeldImage::release, "Drop the buffer; later calls raise ValueError.")
      .def_property_readonly("released", &HeldImage::is_released, "Whether release() was called.")
      .def("memory_bytes", &HeldImage::memory_bytes, "Bytes held, fixed at construction.");

  Class<HeldScrubber>(m, "Scrubber", "Checks an image in slices, round and round.")
      .def(constructor([](const Images& image, std::uint64_t seed, bool keyed) {
             const WeightImage& live = image->get();
             return HeldScrubber{image, Scrubber(live, seed, keyed),
                                 std::vector<std::uint32_t>(live.block_count())};
           }),
           arg("image").none(false), arg("seed") = 0, arg("keyed") = false)
      .def("step", &step, arg("budget_bytes"), "Check the next blocks; list the corrupt ones.")
      .def_property_readonly("position", &of_scrubber<&Scrubber::position>, "Block to come next.")
      .def_property_readonly("sweeps", &of_scrubber<&Scrubber::sweeps>, "Full sweeps completed.")
      .def_property_readonly("corrupt_found", &of_scrubber<&Scrubber::corrupt_found>,
                             "Corrupt blocks found so far.")
      .def(
          "memory_bytes",
          [](const HeldScrubber& self) {
            return self.scrubber.memory_bytes() + found_bytes(self.found);
          },
          "Bytes held, fixed at construction.");
}
