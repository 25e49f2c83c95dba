#include "held.hpp"

#include <algorithm>
#include <array>

namespace selfheal::python {
namespace {

PyTypeObject* report_type = nullptr;  // NOLINT: made once, lives as long as the process

}  // namespace

HashKey to_key(const std::optional<py::bytes>& key) {
  if (!key) return {};
  const auto bytes = as_bytes(*key);
  if (bytes.size() != 16) refuse("key", "16 bytes", bytes.size());
  HashKey parsed;
  for (std::size_t i = 0; i < 8; ++i) {
    parsed.k0 |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
    parsed.k1 |= std::to_integer<std::uint64_t>(bytes[8 + i]) << (8 * i);
  }
  return parsed;
}

HeldImage::HeldImage(py::handle buffer, const std::vector<RegionTuple>& regions,
                     std::int64_t block_bytes, const std::optional<py::bytes>& key) {
  std::vector<Region> parsed;
  parsed.reserve(regions.size());
  for (const auto& [name, module, offset, nbytes] : regions) {
    parsed.push_back({name, module, to_size("regions", offset), to_size("regions", nbytes)});
  }
  const std::size_t block = to_size("block_bytes", block_bytes);
  const HashKey secret = to_key(key);
  buffer_ = std::make_shared<HeldBuffer>(buffer, "buffer", true);
  image_.emplace(buffer_->bytes(), std::move(parsed), block, secret);
}

void HeldImage::release() {
  is_released_ = true;
  for (bool* const is_cut : watches_) *is_cut = true;
  let_go();
}

void HeldImage::let_go() {
  if (is_released_ && watches_.empty()) buffer_.reset();
}

void Watch::add(std::shared_ptr<HeldImage> image) {
  image->get();
  image->watches_.push_back(&is_cut_);
  images_.push_back(std::move(image));
}

void Watch::clear() {
  for (const auto& image : images_) {
    image->watches_.erase(std::find(image->watches_.begin(), image->watches_.end(), &is_cut_));
    image->let_go();
  }
  images_.clear();
  is_cut_ = false;
}

void HeldImage::rebind(py::handle buffer) {
  WeightImage& image = get();
  auto fresh = std::make_shared<HeldBuffer>(buffer, "buffer", true);
  if (fresh->bytes().size() != image.nbytes()) {
    refuse("buffer", std::to_string(image.nbytes()) + " bytes, as before", fresh->bytes().size());
  }
  if (!image.rebind(fresh->bytes())) {
    throw std::runtime_error("buffer: expected the content that the image had, got another one");
  }
  buffer_ = std::move(fresh);
}

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

void check_byte_range(const WeightImage& image, std::size_t offset, std::size_t nbytes) {
  if (offset > image.nbytes()) {
    refuse("offset", "at most nbytes = " + std::to_string(image.nbytes()), offset);
  }
  if (nbytes > image.nbytes() - offset) {
    refuse("nbytes", "at most " + std::to_string(image.nbytes() - offset) + " from there", nbytes);
  }
}

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
    case SnapshotStatus::kCorrupt:
      throw std::runtime_error("take: expected genuine bytes to store, got a corrupt block");
    case SnapshotStatus::kActive:
      refuse("generation", "any but the active one", std::to_string(generation) + ", which is");
    case SnapshotStatus::kNoSnapshots:
      throw std::runtime_error("generation: expected images with a pool, got some without");
    case SnapshotStatus::kBadRange:
      refuse("changes", "stretches inside the images, ascending, not overlapping", "others");
  }
}

void bind_restore_report(py::module_& m) {
  static std::array<PyStructSequence_Field, 4> fields = {{
      {"rewritten", "Live blocks that were written."},
      {"refused", "Stored blocks that were damaged."},
      {"refused_blocks", "Their indices."},
      {nullptr, nullptr},
  }};
  static PyStructSequence_Desc description = {"selfheal_edge._core.RestoreReport",
                                              "What a restore did.", fields.data(), 3};
  if (report_type == nullptr) report_type = PyStructSequence_NewType(&description);
  if (report_type == nullptr) throw py::error_already_set();
  m.attr("RestoreReport") = py::handle(reinterpret_cast<PyObject*>(report_type));
}

py::object restore_report(const RestoreResult& result,
                          std::span<const std::uint32_t> refused_blocks) {
  auto report = py::reinterpret_steal<py::object>(PyStructSequence_New(report_type));
  if (!report) throw py::error_already_set();
  py::list blocks(refused_blocks.size());
  for (std::size_t i = 0; i < refused_blocks.size(); ++i) blocks[i] = refused_blocks[i];
  PyStructSequence_SetItem(report.ptr(), 0, py::int_(result.rewritten).release().ptr());
  PyStructSequence_SetItem(report.ptr(), 1, py::int_(result.refused).release().ptr());
  PyStructSequence_SetItem(report.ptr(), 2, blocks.release().ptr());
  return report;
}

}  // namespace selfheal::python
