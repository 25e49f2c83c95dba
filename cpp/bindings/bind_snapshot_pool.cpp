#include "bindings.hpp"
#include "held.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

Generation take(HeldPool& self, std::int64_t at_least) {
  SnapshotPool& pool = self.get();
  const std::size_t number = to_size("at_least", at_least);
  const auto buffer = self.image->buffer();
  const selfheal::python::ReleasedGil released;
  const TakeResult result = pool.take(number);
  if (result.status != SnapshotStatus::kOk) {
    const py::gil_scoped_acquire acquired;
    require_ok(result.status, 0);
  }
  return result.generation;
}

py::object restore(HeldPool& self, Generation generation, std::int64_t first,
                   std::optional<std::int64_t> count) {
  SnapshotPool& pool = self.get();
  const BlockRange range = block_range(self.image->get(), first, count);
  const RestoreResult result = pool.restore(generation, range.first, range.count, self.found);
  require_ok(result.status, generation);
  return restore_report(result, std::span(self.found).first(result.refused));
}

std::size_t renew_golden(HeldPool& self, py::handle data) {
  SnapshotPool& pool = self.get();
  const HeldBuffer buffer(data, "data", false);
  const std::size_t nbytes = self.image->get().nbytes();
  if (buffer.bytes().size() != nbytes) {
    refuse("data", std::to_string(nbytes) + " bytes, as the image", buffer.bytes().size());
  }
  return pool.renew_golden(buffer.bytes());
}

py::bytes read_generation(HeldPool& self, Generation generation) {
  SnapshotPool& pool = self.get();
  if (!pool.contains(generation)) require_ok(SnapshotStatus::kUnknownGeneration, generation);
  std::vector<std::byte> content(self.image->get().nbytes());
  if (!pool.read(generation, content)) {
    throw std::runtime_error("generation: expected undamaged stored blocks, got a damaged one");
  }
  return {reinterpret_cast<const char*>(content.data()), content.size()};
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
auto of_pool(const HeldPool& self) {
  return (self.pool.*kMember)();
}

}  // namespace

void bind_snapshot_pool(py::module_& m) {
  bind_restore_report(m);
  Class<HeldPool, std::shared_ptr<HeldPool>>(m, "SnapshotPool",
                                             "Saved states of an image in one fixed arena.")
      .def(constructor([](const std::shared_ptr<HeldImage>& image, std::int64_t capacity,
                          std::int64_t generations, bool copies_golden) {
             WeightImage& live = image->get();
             return HeldPool{
                 image,
                 SnapshotPool(live, to_size("capacity_blocks", capacity),
                              to_size("max_generations", generations, 1), copies_golden),
                 std::vector<std::uint32_t>(live.block_count())};
           }),
           arg("image").none(false), arg("capacity_blocks"), arg("max_generations") = 16,
           arg("copies_golden") = true)
      .def_property_readonly("copies_golden", &of_pool<&SnapshotPool::copies_golden>,
                             "Whether golden has a full copy.")
      .def("take", &take, arg("at_least") = 0,
           "Store the live bytes as a new generation; return its number.")
      .def("renew_golden", &renew_golden, arg("data"),
           "Write golden's damaged copies anew from verified bytes.")
      .def("restore", &restore, arg("generation"), arg("first_block") = 0, arg("count") = nullptr,
           "Make live blocks those of a generation.")
      .def("read", &read_generation, arg("generation"),
           "Return the bytes of a generation, verified.")
      .def("drop", &change<&SnapshotPool::drop>, arg("generation"), "Forget a generation.")
      .def("pin", &change<&SnapshotPool::pin>, arg("generation"), "Forbid dropping it.")
      .def("unpin", &change<&SnapshotPool::unpin>, arg("generation"), "Allow dropping it.")
      .def_property_readonly("generations", &generations, "Generations held, oldest first.")
      .def("changed_blocks", &blocks_of<&SnapshotPool::changed_blocks>, arg("generation"),
           "List the blocks that differ from golden.")
      .def("verify", &blocks_of<&SnapshotPool::verify>, arg("generation"),
           "List the blocks whose stored copy is damaged.")
      .def_property_readonly("capacity_blocks", &of_pool<&SnapshotPool::capacity_blocks>,
                             "Blocks that the arena has beyond golden.")
      .def_property_readonly("free_blocks", &of_pool<&SnapshotPool::free_blocks>,
                             "Blocks of the arena not in use.")
      .def_property_readonly("max_generations", &of_pool<&SnapshotPool::max_generations>,
                             "Generations that fit, golden included.")
      .def(
          "memory",
          [](const py::object& self) {
            auto& pool = self.cast<HeldPool&>().pool;
            return py::make_tuple(writable(pool.stored_bytes(), self),
                                  writable(pool.golden_seals().bytes(), self),
                                  writable(pool.list_bytes(), self));
          },
          "Stored bytes, golden's seals and lists, writable: for tests that damage them.")
      .def(
          "memory_bytes",
          [](const HeldPool& self) { return self.pool.memory_bytes() + found_bytes(self.found); },
          "Bytes held, fixed at construction.");
}
