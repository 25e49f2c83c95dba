#include <memory>
#include <optional>
#include <tuple>

#include "bindings.hpp"
#include "selfheal/scrubber.hpp"
#include "selfheal/snapshot_pool.hpp"
#include "selfheal/weight_image.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

using RegionTuple = std::tuple<std::string, std::string, std::int64_t, std::int64_t>;

// A WeightImage with the Python buffer that it watches, both until release().
class HeldImage {
 public:
  HeldImage(py::handle buffer, const std::vector<RegionTuple>& regions, std::int64_t block_bytes) {
    std::vector<Region> parsed;
    for (const auto& [name, module, offset, nbytes] : regions) {
      parsed.push_back({name, module, to_size("regions", offset), to_size("regions", nbytes)});
    }
    const std::size_t block = to_size("block_bytes", block_bytes);
    buffer_ = std::make_unique<HeldBuffer>(buffer, "buffer", true);
    image_.emplace(buffer_->bytes(), std::move(parsed), block);
  }

  WeightImage& get() {
    if (!image_) throw std::invalid_argument("image: expected a live image, got a released one");
    return *image_;
  }
  bool is_released() const { return !image_.has_value(); }
  void release() {
    image_.reset();
    buffer_.reset();
  }
  std::size_t memory_bytes() const { return image_ ? image_->memory_bytes() : 0; }

 private:
  std::unique_ptr<HeldBuffer> buffer_;
  std::optional<WeightImage> image_;
};

using Images = std::shared_ptr<HeldImage>;

struct HeldScrubber {
  Images image;
  Scrubber scrubber;
  std::vector<std::uint32_t> found;
};

struct HeldPool {
  Images image;
  SnapshotPool pool;
  std::vector<std::uint32_t> found;

  SnapshotPool& get() {
    image->get();
    return pool;
  }
};

struct RestoreReport {
  std::size_t rewritten;
  std::size_t refused;
  std::vector<std::uint32_t> refused_blocks;
};

// first .. first + count, checked against the image; None: to its end.
BlockRange block_range(const WeightImage& image, std::int64_t first,
                       std::optional<std::int64_t> count) {
  const std::size_t blocks = image.block_count();
  const std::size_t begin = to_size("first", first);
  if (begin > blocks) refuse("first", "at most block_count = " + std::to_string(blocks), begin);
  const std::size_t number = count ? to_size("count", *count) : blocks - begin;
  if (number > blocks - begin) {
    refuse("count", "at most block_count - first = " + std::to_string(blocks - begin), number);
  }
  return {begin, number};
}

std::vector<std::uint32_t> check(HeldImage& self, std::int64_t first,
                                 std::optional<std::int64_t> count) {
  const WeightImage& image = self.get();
  const BlockRange range = block_range(image, first, count);
  std::vector<std::uint32_t> corrupt(range.count);
  const py::gil_scoped_release released;
  corrupt.resize(image.check(range.first, range.count, corrupt));
  return corrupt;
}

void accept(HeldImage& self, std::int64_t first, std::optional<std::int64_t> count) {
  const BlockRange range = block_range(self.get(), first, count);
  if (!self.get().accept(range.first, range.count)) {
    throw std::runtime_error("accept: expected an undamaged table of checksums, got a damaged one");
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

// What the core says in a status, Python raises.
void require_ok(SnapshotStatus status, Generation generation) {
  switch (status) {
    case SnapshotStatus::kOk:
      return;
    case SnapshotStatus::kUnknownGeneration:
      throw py::key_error("generation: expected one that is held, got " +
                          std::to_string(generation));
    case SnapshotStatus::kGolden:
      refuse("generation", "any but golden, which is never dropped or unpinned", "0");
    case SnapshotStatus::kPinned:
      refuse("generation", "one that is not pinned", std::to_string(generation) + ", which is");
    case SnapshotStatus::kArenaFull:
      throw std::runtime_error(
          "take: expected enough free blocks, got a full arena; drop a "
          "generation or raise capacity_blocks");
    case SnapshotStatus::kTooManyGenerations:
      throw std::runtime_error("take: expected fewer than max_generations, got as many; drop one");
  }
}

Generation take(HeldPool& self) {
  SnapshotPool& pool = self.get();
  const py::gil_scoped_release released;
  const TakeResult result = pool.take();
  if (result.status != SnapshotStatus::kOk) {
    const py::gil_scoped_acquire acquired;
    require_ok(result.status, 0);
  }
  return result.generation;
}

RestoreReport restore(HeldPool& self, Generation generation, std::int64_t first,
                      std::optional<std::int64_t> count) {
  SnapshotPool& pool = self.get();
  const BlockRange range = block_range(self.image->get(), first, count);
  const RestoreResult result = pool.restore(generation, range.first, range.count, self.found);
  require_ok(result.status, generation);
  return {result.rewritten,
          result.refused,
          {self.found.begin(), self.found.begin() + static_cast<std::ptrdiff_t>(result.refused)}};
}

using BlockQuery = SnapshotStatus (SnapshotPool::*)(Generation, std::span<std::uint32_t>,
                                                    std::size_t*) const noexcept;

template <BlockQuery kQuery>
std::vector<std::uint32_t> blocks_of(HeldPool& self, Generation generation) {
  std::size_t count = 0;
  require_ok((self.get().*kQuery)(generation, self.found, &count), generation);
  return {self.found.begin(), self.found.begin() + static_cast<std::ptrdiff_t>(count)};
}

template <SnapshotStatus (SnapshotPool::*kChange)(Generation) noexcept>
void change(HeldPool& self, Generation generation) {
  require_ok((self.get().*kChange)(generation), generation);
}

std::vector<Generation> generations(HeldPool& self) {
  std::vector<Generation> list(self.get().generation_count());
  self.pool.generations(list);
  return list;
}

template <auto kMember>
auto of_image(HeldImage& self) {
  return (self.get().*kMember)();
}

template <auto kMember>
auto of_scrubber(const HeldScrubber& self) {
  return (self.scrubber.*kMember)();
}

template <auto kMember>
auto of_pool(const HeldPool& self) {
  return (self.pool.*kMember)();
}

std::size_t found_bytes(const std::vector<std::uint32_t>& found) {
  return found.capacity() * sizeof(std::uint32_t);
}

}  // namespace

void bind_weight_image(py::module_& m) {
  py::class_<HeldImage, Images>(m, "WeightImage",
                                "Live weights with the checksums they should have.")
      .def(py::init<py::handle, const std::vector<RegionTuple>&, std::int64_t>(), py::arg("buffer"),
           py::arg("regions") = std::vector<RegionTuple>(), py::arg("block_bytes") = 512)
      .def_property_readonly("nbytes", &of_image<&WeightImage::nbytes>, "Bytes of the image.")
      .def_property_readonly("block_bytes", &of_image<&WeightImage::block_bytes>, "Bytes a block.")
      .def_property_readonly("block_count", &of_image<&WeightImage::block_count>, "Blocks.")
      .def_property_readonly("regions", &regions, "(name, module, offset, nbytes) of each region.")
      .def("check", &check, py::arg("first") = 0, py::arg("count") = py::none(),
           "List the corrupt blocks of a range.")
      .def("block_regions", &block_regions, py::arg("block"), "Name the regions in a block.")
      .def("region_blocks", &region_blocks, py::arg("name"), "(first, count) of a region's blocks.")
      .def("accept", &accept, py::arg("first"), py::arg("count"),
           "Take a range as it is now for right.")
      .def("table_ok", &of_image<&WeightImage::table_ok>, "Whether the checksums are undamaged.")
      .def("release", &HeldImage::release, "Drop the buffer; later calls raise ValueError.")
      .def_property_readonly("released", &HeldImage::is_released, "Whether release() was called.")
      .def("memory_bytes", &HeldImage::memory_bytes, "Bytes held, fixed at construction.");

  py::class_<HeldScrubber>(m, "Scrubber", "Checks an image in slices, round and round.")
      .def(py::init([](const Images& image, std::uint64_t seed) {
             const WeightImage& live = image->get();
             return HeldScrubber{image, Scrubber(live, seed),
                                 std::vector<std::uint32_t>(live.block_count())};
           }),
           py::arg("image"), py::arg("seed") = 0)
      .def("step", &step, py::arg("budget_bytes"), "Check the next blocks; list the corrupt ones.")
      .def_property_readonly("position", &of_scrubber<&Scrubber::position>, "Block to come next.")
      .def_property_readonly("sweeps", &of_scrubber<&Scrubber::sweeps>, "Full sweeps completed.")
      .def_property_readonly("blocks_checked", &of_scrubber<&Scrubber::blocks_checked>,
                             "Blocks checked so far.")
      .def_property_readonly("corrupt_found", &of_scrubber<&Scrubber::corrupt_found>,
                             "Corrupt blocks found so far.")
      .def(
          "memory_bytes",
          [](const HeldScrubber& self) {
            return self.scrubber.memory_bytes() + found_bytes(self.found);
          },
          "Bytes held, fixed at construction.");

  py::class_<RestoreReport>(m, "RestoreReport", "What a restore did.", py::is_final())
      .def_readonly("rewritten", &RestoreReport::rewritten, "Live blocks that were written.")
      .def_readonly("refused", &RestoreReport::refused, "Stored blocks that were damaged.")
      .def_readonly("refused_blocks", &RestoreReport::refused_blocks, "Their indices.")
      .def("__repr__", [](const RestoreReport& self) {
        return py::str("RestoreReport(rewritten={}, refused={})")
            .format(self.rewritten, self.refused);
      });

  py::class_<HeldPool>(m, "SnapshotPool", "Saved states of an image in one fixed arena.")
      .def(py::init([](const Images& image, std::int64_t capacity, std::int64_t generations) {
             const WeightImage& live = image->get();
             return HeldPool{image,
                             SnapshotPool(live, to_size("capacity_blocks", capacity),
                                          to_size("max_generations", generations, 1)),
                             std::vector<std::uint32_t>(live.block_count())};
           }),
           py::arg("image"), py::arg("capacity_blocks"), py::arg("max_generations") = 16)
      .def("take", &take, "Store the live bytes as a new generation; return its number.")
      .def("restore", &restore, py::arg("generation"), py::arg("first_block") = 0,
           py::arg("count") = py::none(), "Make live blocks those of a generation.")
      .def("drop", &change<&SnapshotPool::drop>, py::arg("generation"), "Forget a generation.")
      .def("pin", &change<&SnapshotPool::pin>, py::arg("generation"), "Forbid dropping it.")
      .def("unpin", &change<&SnapshotPool::unpin>, py::arg("generation"), "Allow dropping it.")
      .def_property_readonly("generations", &generations, "Generations held, oldest first.")
      .def("changed_blocks", &blocks_of<&SnapshotPool::changed_blocks>, py::arg("generation"),
           "List the blocks that differ from golden.")
      .def("verify", &blocks_of<&SnapshotPool::verify>, py::arg("generation"),
           "List the blocks whose stored copy is damaged.")
      .def_property_readonly("capacity_blocks", &of_pool<&SnapshotPool::capacity_blocks>,
                             "Blocks that the arena has beyond golden.")
      .def_property_readonly("free_blocks", &of_pool<&SnapshotPool::free_blocks>,
                             "Blocks of the arena not in use.")
      .def_property_readonly("max_generations", &of_pool<&SnapshotPool::max_generations>,
                             "Generations that fit, golden included.")
      .def(
          "memory_bytes",
          [](const HeldPool& self) { return self.pool.memory_bytes() + found_bytes(self.found); },
          "Bytes held, fixed at construction.");
}
