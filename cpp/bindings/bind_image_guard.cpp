#include "bindings.hpp"
#include "held.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

const char* part_name(const Finding& finding) {
  switch (finding.part) {
    case DamagedPart::kLive:
      return "live";
    case DamagedPart::kTable:
      return "table";
    case DamagedPart::kKey:
      return "key";
    case DamagedPart::kParity:
      return "parity";
    case DamagedPart::kSnapshot:
      return "snapshot";
    case DamagedPart::kList:
      return "list";
  }
  return "";
}

py::object source_name(const Finding& finding) {
  switch (finding.source) {
    case RepairSource::kNone:
      return py::none();
    case RepairSource::kContent:
      return py::str("content");
    case RepairSource::kSnapshot:
      return py::str("snapshot");
    case RepairSource::kParity:
      return py::str("parity");
    case RepairSource::kLive:
      return py::str("live");
    case RepairSource::kOutside:
      return py::str("file");
  }
  return py::none();
}

py::list flips(const Finding& finding) {
  py::list list;
  for (std::size_t i = 0; i < finding.flip_count; ++i) {
    list.append(py::make_tuple(finding.flips[i].offset, finding.flips[i].mask));
  }
  return list;
}

std::shared_ptr<HeldGuard> make_guard(const std::shared_ptr<HeldImage>& image,
                                      const std::shared_ptr<HeldPool>& pool,
                                      const std::shared_ptr<HeldParity>& parity,
                                      std::uint64_t seed) {
  WeightImage& live = image->get();
  ImageGuard guard(live, pool ? &pool->pool : nullptr, parity ? &parity->parity : nullptr, seed);
  // More than that in one slice end it early; the next one goes on there.
  constexpr std::size_t kMostFound = 64;
  std::vector<Finding> found(std::min(guard.live_blocks() + guard.blocks_behind(), kMostFound));
  return std::make_shared<HeldGuard>(
      HeldGuard{image, pool, parity, std::move(guard), std::move(found)});
}

py::list listed(const HeldGuard& self, std::size_t count) {
  py::list list;
  for (std::size_t i = 0; i < count; ++i) list.append(self.found[i]);
  return list;
}

py::list step(HeldGuard& self, std::int64_t live_bytes, std::int64_t behind_bytes) {
  ImageGuard& guard = self.get();
  return listed(self, guard.step(to_size("live_bytes", live_bytes),
                                 to_size("behind_bytes", behind_bytes), self.found));
}

py::list look(HeldGuard& self, std::int64_t live_bytes) {
  ImageGuard& guard = self.get();
  return listed(self, guard.look(to_size("live_bytes", live_bytes), self.found));
}

py::list sweep(HeldGuard& self) {
  ImageGuard& guard = self.get();
  const auto buffer = self.image->buffer();
  py::list list;
  std::size_t next = 0;
  do {
    std::size_t count = 0;
    {
      const selfheal::python::ReleasedGil released;
      count = guard.sweep(next, self.found);
    }
    for (std::size_t i = 0; i < count; ++i) list.append(self.found[i]);
  } while (next != 0);
  return list;
}

std::size_t checked_block(HeldGuard& self, std::int64_t block) {
  const std::size_t index = to_size("block", block);
  const std::size_t blocks = self.image->get().block_count();
  if (index >= blocks) refuse("block", "below block_count = " + std::to_string(blocks), index);
  return index;
}

std::optional<Finding> heal(HeldGuard& self, std::int64_t block) {
  ImageGuard& guard = self.get();
  Finding finding;
  if (!guard.heal(checked_block(self, block), finding)) return std::nullopt;
  return finding;
}

std::optional<Finding> heal_from(HeldGuard& self, std::int64_t block, py::handle data) {
  ImageGuard& guard = self.get();
  const std::size_t index = checked_block(self, block);
  const HeldBuffer buffer(data, "data", false);
  const std::size_t nbytes = self.image->get().nbytes();
  if (buffer.bytes().size() != nbytes) {
    refuse("data", std::to_string(nbytes) + " bytes, as the image", buffer.bytes().size());
  }
  Finding finding;
  const std::size_t begin = index * guard.block_bytes();
  const std::size_t size = std::min(guard.block_bytes(), nbytes - begin);
  if (!guard.heal_from(index, buffer.bytes().subspan(begin, size), finding)) return std::nullopt;
  return finding;
}

py::object restore(HeldGuard& self, Generation generation, std::int64_t offset,
                   std::optional<std::int64_t> nbytes) {
  ImageGuard& guard = self.get();
  const WeightImage& image = self.image->get();
  if (!self.pool) refuse("generation", "a guard with a pool of snapshots", "one without");
  const std::size_t begin = to_size("offset", offset);
  check_byte_range(image, begin, 0);
  const std::size_t size = nbytes ? to_size("nbytes", *nbytes) : image.nbytes() - begin;
  check_byte_range(image, begin, size);
  const RestoreResult result = guard.restore(generation, begin, size);
  require_ok(result.status, generation);
  return restore_report(result, {});
}

void write_bytes(HeldGuard& self, std::int64_t offset, py::handle data) {
  ImageGuard& guard = self.get();
  const HeldBuffer buffer(data, "data", false);
  const std::size_t begin = to_size("offset", offset);
  check_byte_range(self.image->get(), begin, buffer.bytes().size());
  if (!guard.write(begin, buffer.bytes())) {
    throw std::runtime_error("write: expected sound blocks around the change, got a corrupt one");
  }
}

template <auto kMember>
auto of_guard(const HeldGuard& self) {
  return (self.guard.*kMember)();
}

template <auto kMember>
auto of_parity(const HeldParity& self) {
  return (self.parity.*kMember)();
}

std::uint64_t hash(const py::bytes& key, py::handle data, std::uint64_t tweak) {
  const HashSchedule schedule(to_key(key));
  const HeldBuffer buffer(data, "buffer", false);
  const selfheal::python::ReleasedGil released;
  return keyed_hash(schedule, tweak, buffer.bytes());
}

}  // namespace

void bind_image_guard(py::module_& m) {
  define_function(m, "keyed_hash", &hash, arg("key"), arg("buffer"), arg("tweak") = 0,
                  "Compute the keyed hash of a buffer.");
  define_function(
      m, "keyed_hash_backend", [] { return py::str(std::string(keyed_hash_backend())); },
      "Name the backend in use.");
  define_function(
      m, "keyed_hash_backends",
      [] {
        const auto names = keyed_hash_backends();
        return std::vector<std::string>(names.begin(), names.end());
      },
      "Name the backends that this machine can run, fastest first.");
  define_function(
      m, "set_keyed_hash_backend",
      [](const std::string& name) {
        if (set_keyed_hash_backend(name)) return;
        std::string expected = "one of";
        for (const auto backend : keyed_hash_backends()) {
          expected.append(" '").append(backend).append("'");
        }
        refuse("name", expected, quoted(name));
      },
      arg("name"), "Switch the backend, for tests and measurements.");

  Class<HeldParity, std::shared_ptr<HeldParity>>(m, "Parity", "An erasure code over blocks.")
      .def(constructor([](const std::shared_ptr<HeldImage>& image, std::int64_t group_blocks,
                          std::int64_t parity_blocks) {
             return HeldParity{image, Parity(image->get(), to_size("group_blocks", group_blocks),
                                             to_size("parity_blocks", parity_blocks))};
           }),
           arg("image").none(false), arg("group_blocks") = 16, arg("parity_blocks") = 1)
      .def_property_readonly("groups", &of_parity<&Parity::groups>, "Groups of blocks.")
      .def_property_readonly("repairable", &of_parity<&Parity::repairable>,
                             "Damaged blocks a group that can be repaired.")
      .def_property_readonly("count", &of_parity<&Parity::count>, "Parity blocks.")
      .def(
          "memory",
          [](const py::object& self) {
            auto& parity = self.cast<HeldParity&>().parity;
            return py::make_tuple(writable(parity.stored_bytes(), self),
                                  writable(parity.seals().bytes(), self));
          },
          "Parity and its hashes, writable: for tests that damage them.")
      .def("memory_bytes", &of_parity<&Parity::memory_bytes>, "Bytes held, fixed at construction.");

  Class<Finding>(m, "Finding", "One damage, and what became of it.", py::is_final())
      .def_property_readonly("part", &part_name, "What was damaged.")
      .def_property_readonly("source", &source_name, "Where the right bytes came from.")
      .def_property_readonly("healed", &Finding::is_healed, "Whether it is right again.")
      .def_property_readonly("block", &Finding::block, "Number of the block.")
      .def_property_readonly("wrong_bits", &Finding::wrong_bits, "Live bits that were wrong.")
      .def_property_readonly("flips", &flips, "(offset in the block, mask) of the first ones.")
      .def("__repr__", [](const Finding& self) {
        return py::str("Finding(part={!r}, block={}, wrong_bits={}, source={!r})")
            .format(part_name(self), self.block, self.wrong_bits, source_name(self));
      });

  Class<HeldGuard, std::shared_ptr<HeldGuard>>(m, "ImageGuard",
                                               "Finds damage and heals it at once.")
      .def(constructor(&make_guard), arg("image").none(false), arg("pool") = nullptr,
           arg("parity") = nullptr, arg("seed") = 0)
      .def("step", &step, arg("live_bytes"), arg("behind_bytes") = 0,
           "Check the next slices; list what was damaged.")
      .def("look", &look, arg("live_bytes"),
           "Check the next slice, and repair nothing; list what is damaged.")
      .def("sweep", &sweep, "Check everything now; list what was damaged.")
      .def("heal", &heal, arg("block"), "Heal a block if it needs it.")
      .def("heal_from", &heal_from, arg("block"), arg("data"),
           "Heal a block, if need be from an image's bytes as they are elsewhere.")
      .def("restore", &restore, arg("generation"), arg("offset") = 0, arg("nbytes") = nullptr,
           "Make bytes those of a generation.")
      .def("write", &write_bytes, arg("offset"), arg("data"), "Change bytes on purpose.")
      .def_property_readonly("sweeps", &of_guard<&ImageGuard::sweeps>,
                             "Sweeps of live bytes completed.")
      .def_property_readonly("live_blocks", &of_guard<&ImageGuard::live_blocks>, "Live blocks.")
      .def_property_readonly("blocks_behind", &of_guard<&ImageGuard::blocks_behind>,
                             "Blocks in a sweep of what stands behind them.")
      .def(
          "memory_bytes",
          [](const HeldGuard& self) {
            return self.guard.memory_bytes() + self.found.capacity() * sizeof(Finding);
          },
          "Bytes held, fixed at construction.");
}
