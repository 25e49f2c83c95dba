#include "bindings.hpp"
#include "held.hpp"
#include "selfheal/guard/image_set.hpp"

namespace {

using namespace selfheal;
using namespace selfheal::python;

struct HeldSet {
  std::vector<std::shared_ptr<HeldGuard>> guards;
  ImageSet set;

  ImageSet& get() {
    for (const auto& guard : guards) guard->get();
    return set;
  }
};

std::vector<std::shared_ptr<HeldBuffer>> buffers_of(const HeldSet& self) {
  std::vector<std::shared_ptr<HeldBuffer>> buffers;
  buffers.reserve(self.guards.size());
  for (const auto& guard : self.guards) buffers.push_back(guard->image->buffer());
  return buffers;
}

std::vector<ImageGuard*> guards_of(const std::vector<std::shared_ptr<HeldGuard>>& held) {
  std::vector<ImageGuard*> guards;
  guards.reserve(held.size());
  for (const auto& guard : held) guards.push_back(&guard->get());
  return guards;
}

Generation taken(const TakeResult& result) {
  require_ok(result.status, result.generation);
  return result.generation;
}

Generation take(HeldSet& self, bool changed, std::int64_t at_least) {
  ImageSet& set = self.get();
  const Generation number = to_size("at_least", at_least);
  TakeResult result;
  const auto held = buffers_of(self);
  {
    const selfheal::python::ReleasedGil released;
    result = set.take(changed, number);
  }
  return taken(result);
}

using ChangeTuple = std::tuple<std::int64_t, std::int64_t, py::object>;
using RangeTuple = std::tuple<std::int64_t, std::int64_t, std::int64_t>;

Generation patch(HeldSet& self, const std::vector<ChangeTuple>& changes, std::int64_t at_least) {
  ImageSet& set = self.get();
  const Generation number = to_size("at_least", at_least);
  std::vector<std::unique_ptr<HeldBuffer>> buffers;
  std::vector<ImageChange> parsed;
  buffers.reserve(changes.size());
  parsed.reserve(changes.size());
  for (const auto& [image, offset, data] : changes) {
    buffers.push_back(std::make_unique<HeldBuffer>(data, "changes", false));
    parsed.push_back(
        {to_size("changes", image), to_size("changes", offset), buffers.back()->bytes()});
  }
  TakeResult result;
  const auto held = buffers_of(self);
  {
    const selfheal::python::ReleasedGil released;
    result = set.patch(parsed, number);
  }
  return taken(result);
}

py::object restore(HeldSet& self, Generation generation, const std::vector<RangeTuple>& ranges) {
  ImageSet& set = self.get();
  std::vector<ImageRange> parsed;
  parsed.reserve(ranges.size());
  for (const auto& [image, offset, nbytes] : ranges) {
    parsed.push_back(
        {to_size("ranges", image), to_size("ranges", offset), to_size("ranges", nbytes)});
  }
  RestoreResult result;
  const auto held = buffers_of(self);
  {
    const selfheal::python::ReleasedGil released;
    result = set.restore(generation, parsed);
  }
  require_ok(result.status, generation);
  return restore_report(result, {});
}

template <SnapshotStatus (ImageSet::*kChange)(Generation) noexcept>
void change(HeldSet& self, Generation generation) {
  require_ok((self.get().*kChange)(generation), generation);
}

std::vector<Generation> generations(const HeldSet& self) {
  std::vector<Generation> list(self.set.generations({}));
  self.set.generations(list);
  return list;
}

}  // namespace

void bind_image_set(py::module_& m) {
  Class<HeldSet>(m, "ImageSet", "All images of a model, changed together or not at all.")
      .def(constructor([](const std::vector<std::shared_ptr<HeldGuard>>& guards) {
             for (const auto& guard : guards) {
               if (!guard) refuse("guards", "guards of images", "None");
             }
             return HeldSet{guards, ImageSet(guards_of(guards))};
           }),
           arg("guards"))
      .def("take", &take, arg("changed") = false, arg("at_least") = 0,
           "Store the live bytes of all images as one generation; return its number.")
      .def("patch", &patch, arg("changes"), arg("at_least") = 0,
           "Make (image, offset, bytes) a new generation, the active one; return its number.")
      .def("restore", &restore, arg("generation"), arg("ranges"),
           "Make (image, offset, nbytes) those of a generation, in all images or in none.")
      .def("activate", &change<&ImageSet::activate>, arg("generation"),
           "Say which generation the live bytes are meant to be.")
      .def("drop", &change<&ImageSet::drop>, arg("generation"), "Forget a generation.")
      .def("pin", &change<&ImageSet::pin>, arg("generation"), "Forbid dropping it.")
      .def("unpin", &change<&ImageSet::unpin>, arg("generation"), "Allow dropping it.")
      .def(
          "origin",
          [](const HeldSet& self, Generation generation) { return self.set.origin(generation); },
          arg("generation"), "The first generation with the same content on purpose.")
      .def_property_readonly(
          "next_generation", [](const HeldSet& self) { return self.set.next_generation(); },
          "The smallest number that no generation has had.")
      .def_property_readonly(
          "active", [](const HeldSet& self) { return self.set.active(); },
          "The generation that the live bytes are meant to be.")
      .def_property_readonly("generations", &generations, "Generations held, oldest first.")
      .def(
          "memory_bytes", [](const HeldSet& self) { return self.set.memory_bytes(); },
          "Bytes held, fixed at construction.");
}
