#include "selfheal/guard/image_guard.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/crc32c.hpp"

namespace selfheal {
namespace {

constexpr int kTries = 3;

// Items of the keyed sweep. In 64 bits: their number may be more than 32 hold.
std::uint64_t keyed_items(const WeightImage& image, const SnapshotPool* pool,
                          const Parity* parity) noexcept {
  std::uint64_t items = image.block_count();
  if (parity != nullptr) items += parity->count();
  if (pool != nullptr) {
    items += std::uint64_t{image.block_count()} + pool->capacity_blocks() + pool->list_pieces();
  }
  return items;
}

}  // namespace

ImageGuard::ImageGuard(WeightImage& image, SnapshotPool* pool, Parity* parity, std::uint64_t seed)
    : image_(&image),
      pool_(pool),
      parity_(parity),
      fast_{0, SweepOrder(image.block_count(), seed)},
      parity_pace_{image.block_count(),
                   SweepOrder(parity == nullptr ? 1 : parity->count(), seed + 1)},
      keyed_{0, SweepOrder(keyed_items(image, pool, parity), ~seed)},
      scratch_(image.block_bytes()) {
  if (pool != nullptr && &pool->image() != &image) {
    refuse("pool", "one of the same image", "another one's");
  }
  if (parity != nullptr && &parity->image() != &image) {
    refuse("parity", "one of the same image", "another one's");
  }
}

std::size_t ImageGuard::step(std::uint64_t fast_bytes, std::uint64_t keyed_bytes,
                             std::span<Finding> found) noexcept {
  std::size_t count = advance(fast_, fast_bytes, false, found);
  if (parity_ != nullptr && count < found.size()) {
    // In 64 bits: the product is larger than 32 hold from 17 MB on.
    const std::uint64_t blocks = fast_.order.size();
    const std::uint64_t bytes = std::min(fast_bytes, blocks * image_->block_bytes());
    const std::uint64_t share = (bytes * parity_->count() + blocks - 1) / blocks;
    count += advance(parity_pace_, share, false, found.subspan(count));
  }
  if (count == found.size()) return count;
  return count + advance(keyed_, keyed_bytes, true, found.subspan(count));
}

std::size_t ImageGuard::advance(Sweep& sweep, std::uint64_t budget, bool keyed,
                                std::span<Finding> found) noexcept {
  const std::size_t block_bytes = image_->block_bytes();
  const std::uint64_t round = std::uint64_t{sweep.order.size()} * block_bytes;
  sweep.credit += std::min(budget, round);
  sweep.credit = std::min(sweep.credit, round);
  std::size_t count = 0;
  while (sweep.credit >= block_bytes && count < found.size()) {
    found[count] = {};
    if (visit(sweep.first + sweep.order.at(sweep.next), keyed, found[count])) ++count;
    sweep.credit -= block_bytes;
    ++sweep.visited;
    if (++sweep.next == sweep.order.size()) {
      sweep.next = 0;
      if (count < found.size() && image_->mend_key()) {
        found[count] = {};
        found[count].part = DamagedPart::kKey;
        found[count++].source = RepairSource::kContent;
      }
    }
  }
  return count;
}

std::size_t ImageGuard::look(std::uint64_t fast_bytes, std::span<Finding> found) noexcept {
  const std::size_t block_bytes = image_->block_bytes();
  const std::uint64_t round = std::uint64_t{fast_.order.size()} * block_bytes;
  fast_.credit = std::min(fast_.credit + std::min(fast_bytes, round), round);
  std::size_t count = 0;
  while (fast_.credit >= block_bytes && count < found.size()) {
    const std::size_t block = fast_.order.at(fast_.next);
    if (!image_->check_block(block, false)) {
      found[count] = {};
      found[count++].block = static_cast<std::uint32_t>(block);
    }
    fast_.credit -= block_bytes;
    ++fast_.visited;
    if (++fast_.next == fast_.order.size()) fast_.next = 0;
  }
  return count;
}

std::size_t ImageGuard::verify(bool heals, std::span<Finding> found) noexcept {
  const std::size_t blocks = image_->block_count();
  fast_.visited += blocks;
  if (image_->check(0, blocks, {}, true) == 0) return 0;
  std::size_t count = 0;
  for (std::size_t block = 0; block < blocks && count < found.size(); ++block) {
    found[count] = {};
    if (heals) {
      if (visit_live(block, true, found[count])) ++count;
    } else if (!image_->check_block(block, true)) {
      found[count++].block = static_cast<std::uint32_t>(block);
    }
  }
  return count;
}

std::size_t ImageGuard::sweep(std::span<Finding> found) noexcept {
  std::size_t count = 0;
  Finding spare;
  const auto next = [&]() -> Finding& {
    Finding& finding = count < found.size() ? found[count] : spare;
    finding = {};
    return finding;
  };
  if (image_->mend_key()) {
    Finding& finding = next();
    finding.part = DamagedPart::kKey;
    finding.source = RepairSource::kContent;
    ++count;
  }
  for (std::size_t item = 0; item < keyed_.order.size(); ++item) {
    if (visit(item, true, next())) ++count;
  }
  return count;
}

bool ImageGuard::visit(std::size_t item, bool keyed, Finding& finding) noexcept {
  const std::size_t blocks = image_->block_count();
  if (item < blocks) return visit_live(item, keyed, finding);
  item -= blocks;
  const std::size_t parity_blocks = parity_ == nullptr ? 0 : parity_->count();
  if (item < parity_blocks) return visit_parity(item, keyed, finding);
  item -= parity_blocks;
  if (item < blocks) return visit_golden(item, finding);
  item -= blocks;
  const std::size_t slots = pool_->capacity_blocks();
  return item < slots ? visit_slot(item, finding) : visit_list(item - slots, finding);
}

bool ImageGuard::heal(std::size_t block, Finding& finding) noexcept {
  return block < image_->block_count() && visit_live(block, true, finding);
}

bool ImageGuard::visit_live(std::size_t block, bool keyed, Finding& finding) noexcept {
  BlockState state = image_->look(block, keyed);
  if (state == BlockState::kSound) return false;
  finding.block = static_cast<std::uint32_t>(block);
  if (state == BlockState::kTableDamaged) {
    finding.part = DamagedPart::kTable;
    if (image_->mend(block)) {
      finding.source = RepairSource::kContent;
      return true;
    }
    state = BlockState::kCorrupt;  // damaged since we looked
  }
  finding.part = DamagedPart::kLive;
  finding.is_by_key = keyed && image_->look(block, false) == BlockState::kSound;
  for (int i = 0; i < kTries && !finding.is_healed(); ++i) {
    finding.source = rewrite(block, finding);
  }
  return true;
}

RepairSource ImageGuard::rewrite(std::size_t block, Finding& finding) noexcept {
  const auto live = image_->block(block);
  const auto copy = std::span(scratch_).first(live.size());
  RepairSource source = RepairSource::kNone;
  if (pool_ != nullptr) {
    const auto stored = pool_->find_genuine(block);
    if (!stored.empty()) {
      std::memcpy(copy.data(), stored.data(), copy.size());
      source = RepairSource::kSnapshot;
    }
  }
  if (source == RepairSource::kNone && parity_ != nullptr && parity_->reconstruct(block, copy)) {
    source = RepairSource::kParity;
  }
  if (source == RepairSource::kNone && pool_ != nullptr) {
    // No copy has the keyed hash: perhaps both entries for it are damaged. Golden's own seal and a
    // checksum that has survived say what the block must be.
    const auto authentic = pool_->authentic(block, image_->table());
    if (!authentic.empty()) {
      std::memcpy(copy.data(), authentic.data(), copy.size());
      image_->expect(block, image_->seal_of(block, copy));
      source = RepairSource::kSnapshot;
    }
  }
  if (source == RepairSource::kNone) return source;
  if (finding.wrong_bits == 0) describe(live, copy, finding);
  std::memcpy(live.data(), copy.data(), live.size());
  // Both entries anew: one of them may be damaged as well. True only if the bytes are genuine now.
  return image_->mend(block) ? source : RepairSource::kNone;
}

void ImageGuard::describe(std::span<const std::byte> wrong, std::span<const std::byte> right,
                          Finding& finding) const noexcept {
  finding.wrong_bytes = finding.wrong_bits = finding.flip_count = 0;
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const auto mask = std::to_integer<std::uint8_t>(wrong[i] ^ right[i]);
    if (mask == 0) continue;
    ++finding.wrong_bytes;
    finding.wrong_bits += static_cast<std::uint32_t>(std::popcount(mask));
    if (finding.flip_count < Finding::kMaxFlips) {
      finding.flips[finding.flip_count++] = {static_cast<std::uint16_t>(i), mask};
    }
  }
}

bool ImageGuard::visit_parity(std::size_t number, bool keyed, Finding& finding) noexcept {
  const BlockState state = parity_->look(number, keyed);
  if (state == BlockState::kSound) return false;
  finding.part = DamagedPart::kParity;
  finding.block = static_cast<std::uint32_t>(number);
  if (parity_->mend(number)) {
    finding.source = state == BlockState::kCorrupt ? RepairSource::kParity : RepairSource::kContent;
    return true;
  }
  heal_group(number % parity_->groups());  // a live block is corrupt: that first, then again
  if (parity_->mend(number)) finding.source = RepairSource::kParity;
  return true;
}

bool ImageGuard::visit_golden(std::size_t block, Finding& finding) noexcept {
  bool is_changed = false;
  const bool is_sound = pool_->mend_golden(block, &is_changed);
  if (is_sound && !is_changed) return false;
  finding.part = DamagedPart::kSnapshot;
  finding.block = static_cast<std::uint32_t>(block);
  if (is_sound) finding.source = RepairSource::kLive;
  return true;
}

bool ImageGuard::visit_slot(std::size_t slot, Finding& finding) noexcept {
  bool is_changed = false;
  std::size_t block = 0;
  const bool is_sound = pool_->mend_slot(slot, &block, &is_changed);
  if (is_sound && !is_changed) return false;
  finding.part = DamagedPart::kSnapshot;
  finding.block = static_cast<std::uint32_t>(block);
  if (is_sound) finding.source = RepairSource::kLive;
  return true;
}

bool ImageGuard::visit_list(std::size_t piece, Finding& finding) noexcept {
  bool is_changed = false;
  std::size_t place = 0;
  const bool is_sound = pool_->mend_list(piece, &place, &is_changed);
  if (is_sound && !is_changed) return false;
  finding.part = DamagedPart::kList;
  finding.block = static_cast<std::uint32_t>(place);
  if (is_sound) finding.source = RepairSource::kContent;
  return true;
}

ImageGuard::Span ImageGuard::clipped(std::size_t offset, std::size_t nbytes) const noexcept {
  const std::size_t begin = std::min(offset, image_->nbytes());
  const std::size_t end = begin + std::min(nbytes, image_->nbytes() - begin);
  const std::size_t size = image_->block_bytes();
  return {begin, end, begin / size, end == begin ? begin / size : (end - 1) / size};
}

RestoreResult ImageGuard::restore(Generation generation, std::size_t offset,
                                  std::size_t nbytes) noexcept {
  const RestoreResult result = examine(generation, offset, nbytes);
  if (result.status != SnapshotStatus::kOk || result.refused != 0) return result;
  return put_back(generation, offset, nbytes);
}

RestoreResult ImageGuard::examine(Generation generation, std::size_t offset,
                                  std::size_t nbytes) noexcept {
  RestoreResult result;
  if (pool_ == nullptr || !pool_->contains(generation)) {
    result.status = SnapshotStatus::kUnknownGeneration;
    return result;
  }
  const auto [begin, end, first, last] = clipped(offset, nbytes);
  if (begin == end) return result;
  const std::size_t place = pool_->mended_place(generation);
  const bool is_lost = place == pool_->generation_count();
  prepare(first, last);
  const std::size_t size = image_->block_bytes();
  for (std::size_t i = first; i <= last; ++i) {
    Finding finding;
    const bool is_dead = heal(i, finding) && !finding.is_healed();
    const bool is_whole = begin <= i * size && end >= i * size + image_->block(i).size();
    if ((is_dead && !is_whole) || is_lost || !pool_->stored_at(place, i).is_sound) {
      ++result.refused;
    }
  }
  return result;
}

RestoreResult ImageGuard::put_back(Generation generation, std::size_t offset,
                                   std::size_t nbytes) noexcept {
  RestoreResult result;
  const auto [begin, end, first, last] = clipped(offset, nbytes);
  if (begin == end) return result;
  const std::size_t place = pool_ == nullptr ? 0 : pool_->mended_place(generation);
  if (pool_ == nullptr || place == pool_->generation_count()) {
    result.status = SnapshotStatus::kUnknownGeneration;
    return result;
  }
  const std::size_t size = image_->block_bytes();
  for (std::size_t i = first; i <= last; ++i) {
    const auto live = image_->block(i);
    const std::size_t from = std::max(begin, i * size) - i * size;
    const std::size_t to = std::min(end, i * size + live.size()) - i * size;
    const StoredBlock stored = pool_->stored_at(place, i);
    if (!stored.is_sound) {
      ++result.refused;
      continue;
    }
    const auto part = stored.bytes.subspan(from, to - from);
    if (std::memcmp(live.data() + from, part.data(), part.size()) != 0) ++result.rewritten;
    if (part.size() != live.size()) {
      if (!image_->write(i * size + from, part)) ++result.refused;
    } else {
      // The copy's hash is verified and the seal follows it; the bytes are not hashed once more.
      if (!image_->table().admits(i, stored.keyed)) {
        image_->expect(i, {crc32c(part), stored.keyed});
      }
      std::memcpy(live.data(), part.data(), part.size());
    }
  }
  follow(first, last);
  return result;
}

bool ImageGuard::write(std::size_t offset, std::span<const std::byte> bytes) noexcept {
  if (offset > image_->nbytes() || bytes.size() > image_->nbytes() - offset) return false;
  if (bytes.empty()) return true;
  const auto [begin, end, first, last] = clipped(offset, bytes.size());
  prepare(first, last);
  for (const std::size_t i : {first, last}) {
    Finding ignored;
    heal(i, ignored);
  }
  if (!image_->write(offset, bytes)) return false;
  follow(first, last);
  return true;
}

template <typename Action>
void ImageGuard::for_groups(std::size_t first, std::size_t last, Action action) noexcept {
  if (parity_ == nullptr) return;
  const std::size_t groups = std::min(last - first + 1, parity_->groups());
  for (std::size_t i = 0; i < groups; ++i) action(parity_->group_of(first + i));
}

void ImageGuard::heal_group(std::size_t group) noexcept {
  for (std::size_t i = group; i < image_->block_count(); i += parity_->groups()) {
    Finding ignored;
    heal(i, ignored);
  }
}

// Before a change on purpose: heals while the parity still fits what the image expects.
void ImageGuard::prepare(std::size_t first, std::size_t last) noexcept {
  for_groups(first, last, [this](std::size_t group) noexcept { heal_group(group); });
}

// After it: encodes the groups anew, from blocks that are all genuine.
void ImageGuard::follow(std::size_t first, std::size_t last) noexcept {
  if (parity_ == nullptr) return;
  const HashSchedule schedule = image_->kept_key().fresh();
  for_groups(first, last, [&](std::size_t group) noexcept {
    for (int i = 0; i < kTries; ++i) {
      if (parity_->encode(group, schedule)) return;
      heal_group(group);
    }
    parity_->invalidate(group);  // a block cannot be healed: the sweep will come back to this
  });
}

}  // namespace selfheal
