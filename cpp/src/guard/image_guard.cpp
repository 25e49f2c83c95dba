#include "selfheal/guard/image_guard.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr int kTries = 3;
constexpr std::size_t kRow = WeightImage::kRow;
// Deriving the key's schedule afresh takes 2 us: a fiftieth of what checking this takes.
constexpr std::uint64_t kProvenBytes = std::uint64_t{4} << 20;

// Items of the sweep behind: the key is one. In 64 bits: their number may be more than 32 hold.
std::uint64_t items_behind(const WeightImage& image, const SnapshotPool* pool,
                           const Parity* parity) noexcept {
  std::uint64_t items = 1;
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
      live_{SweepOrder((image.block_count() - 1) / kRow + 1, seed)},
      behind_{SweepOrder(items_behind(image, pool, parity), ~seed)},
      scratch_(image.block_bytes()) {
  if (pool != nullptr && &pool->image() != &image) {
    refuse("pool", "one of the same image", "another one's");
  }
  if (parity != nullptr && &parity->image() != &image) {
    refuse("parity", "one of the same image", "another one's");
  }
}

std::size_t ImageGuard::step(std::uint64_t live_bytes, std::uint64_t behind_bytes,
                             std::span<Finding> found) noexcept {
  const std::size_t count = sweep_live(live_bytes, true, found);
  return count + sweep_behind(behind_bytes, found.subspan(count));
}

std::size_t ImageGuard::look(std::uint64_t live_bytes, std::span<Finding> found) noexcept {
  return sweep_live(live_bytes, false, found);
}

std::uint64_t ImageGuard::next_row_bytes() const noexcept {
  const std::size_t row = live_.order.at(live_.next) * kRow;
  return std::uint64_t{std::min(kRow, image_->block_count() - row)} * image_->block_bytes();
}

std::uint64_t ImageGuard::missing_live_bytes() const noexcept {
  const std::uint64_t bytes = next_row_bytes();
  return live_.credit < bytes ? bytes - live_.credit : 0;
}

void ImageGuard::add(Sweep& sweep, std::uint64_t budget, std::size_t blocks) const noexcept {
  const std::uint64_t round = std::uint64_t{blocks} * image_->block_bytes();
  sweep.credit = std::min(sweep.credit + std::min(budget, round), round);
}

std::size_t ImageGuard::sweep_live(std::uint64_t budget, bool heals,
                                   std::span<Finding> found) noexcept {
  const std::size_t blocks = image_->block_count();
  add(live_, budget, blocks);
  // Most calls bring less than a row: which one is next need not be asked then.
  const std::uint64_t least = std::uint64_t{(blocks - 1) % kRow + 1} * image_->block_bytes();
  std::size_t count = 0;
  while (live_.credit >= least && count < found.size()) {
    const std::size_t row = live_.order.at(live_.next) * kRow;
    const std::size_t end = std::min(row + kRow, blocks);
    const std::uint64_t bytes = std::uint64_t{end - row} * image_->block_bytes();
    if (live_.credit < bytes) break;
    if (within_ != 0 || !image_->are_sound(row, end - row)) {
      bool is_done = true;
      count += visit_row(row + within_, end, heals, found.subspan(count), is_done);
      if (!is_done) break;  // no room is left: the next step goes on in this row
    }
    live_.credit -= bytes;
    live_.visited += end - row;
    unproven_ += bytes;
    if (++live_.next == live_.order.size()) live_.next = 0;
  }
  if (heals && unproven_ >= kProvenBytes && count < found.size() && visit_key(found[count])) {
    ++count;
  }
  return count;
}

// Visits one by one what is in doubt. Where there is no room for all of it, is_done is false and
// within_ is where it ended: at the row's first block where the key took the only place.
std::size_t ImageGuard::visit_row(std::size_t first, std::size_t end, bool heals,
                                  std::span<Finding> found, bool& is_done) noexcept {
  const std::size_t row = first - within_;
  within_ = 0;
  // Perhaps it is the schedule that is damaged: then all that it hashes is in doubt.
  std::size_t count = heals && first == row && visit_key(found[0]) ? 1 : 0;
  for (std::size_t block = first; block < end; ++block) {
    if (count == found.size()) {
      within_ = block - row;
      is_done = false;
      break;
    }
    found[count] = {};
    if (heals) {
      if (visit_live(block, found[count])) ++count;
    } else if (!image_->check_block(block)) {
      found[count++].block = static_cast<std::uint32_t>(block);
    }
  }
  return count;
}

std::size_t ImageGuard::sweep_behind(std::uint64_t budget, std::span<Finding> found) noexcept {
  const std::size_t block_bytes = image_->block_bytes();
  add(behind_, budget, behind_.order.size());
  std::size_t count = 0;
  while (behind_.credit >= block_bytes && count < found.size()) {
    found[count] = {};
    if (visit_behind(behind_.order.at(behind_.next), found[count])) ++count;
    behind_.credit -= block_bytes;
    ++behind_.visited;
    if (++behind_.next == behind_.order.size()) behind_.next = 0;
  }
  return count;
}

std::size_t ImageGuard::verify(bool heals, std::span<Finding> found) noexcept {
  const std::size_t blocks = image_->block_count();
  live_.visited += blocks;
  unproven_ += image_->nbytes();
  std::size_t count = 0;
  if (image_->check(0, blocks, {}) != 0) {
    for (std::size_t row = 0; row < blocks && count < found.size(); row += kRow) {
      const std::size_t end = std::min(row + kRow, blocks);
      if (image_->are_sound(row, end - row)) continue;
      const std::size_t within = std::exchange(within_, 0);
      bool is_done = true;  // where not, this is the last row: there is no room for another
      count += visit_row(row, end, heals, found.subspan(count), is_done);
      within_ = within;
    }
  }
  if (heals && unproven_ >= kProvenBytes && count < found.size() && visit_key(found[count])) {
    ++count;
  }
  return count;
}

std::size_t ImageGuard::sweep(std::span<Finding> found) noexcept {
  const std::size_t items = image_->block_count() + behind_.order.size();
  std::size_t count = 0;
  Finding spare;
  for (std::size_t item = 0; item < items; ++item) {
    Finding& finding = count < found.size() ? found[count] : spare;
    if (visit(item, finding)) ++count;
  }
  return count;
}

std::size_t ImageGuard::sweep(std::size_t& next, std::span<Finding> found) noexcept {
  const std::size_t items = image_->block_count() + behind_.order.size();
  std::size_t count = 0;
  for (; next < items; ++next) {
    if (count == found.size()) return count;
    if (visit(next, found[count])) ++count;
  }
  next = 0;
  return count;
}

// Of everything: the key first, then what is live, then the rest of what stands behind it.
bool ImageGuard::visit(std::size_t item, Finding& finding) noexcept {
  finding = {};
  const std::size_t blocks = image_->block_count();
  if (item == 0) return visit_key(finding);
  return item <= blocks ? visit_live(item - 1, finding) : visit_behind(item - blocks, finding);
}

bool ImageGuard::visit_behind(std::size_t item, Finding& finding) noexcept {
  if (item == 0) return visit_key(finding);
  --item;
  const std::size_t parity_blocks = parity_ == nullptr ? 0 : parity_->count();
  if (item < parity_blocks) return visit_parity(item, finding);
  item -= parity_blocks;
  const std::size_t blocks = image_->block_count();
  if (item < blocks) return visit_golden(item, finding);
  item -= blocks;
  const std::size_t slots = pool_->capacity_blocks();
  return item < slots ? visit_slot(item, finding) : visit_list(item - slots, finding);
}

bool ImageGuard::visit_key(Finding& finding) noexcept {
  unproven_ = 0;
  if (!image_->mend_key()) return false;
  finding = {};
  finding.part = DamagedPart::kKey;
  finding.source = RepairSource::kContent;
  return true;
}

bool ImageGuard::heal(std::size_t block, Finding& finding) noexcept {
  return block < image_->block_count() && visit_live(block, finding);
}

bool ImageGuard::heal_from(std::size_t block, std::span<const std::byte> content,
                           Finding& finding) noexcept {
  if (!heal(block, finding) || finding.is_healed()) return finding.is_healed();
  const auto live = image_->block(block);
  if (content.size() != live.size()) return false;
  const auto copy = std::span(scratch_).first(live.size());
  std::memcpy(copy.data(), content.data(), copy.size());
  if (!image_->is_genuine(block, copy)) return false;
  describe(live, copy, finding);
  std::memcpy(live.data(), copy.data(), live.size());
  if (image_->mend(block)) finding.source = RepairSource::kOutside;
  return finding.is_healed();
}

bool ImageGuard::visit_live(std::size_t block, Finding& finding) noexcept {
  BlockState state = image_->look(block);
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
  if (pool_ != nullptr && pool_->is_golden(block, image_->block(block))) {
    // Both entries are lost, and the content is not.
    finding.part = DamagedPart::kTable;
    image_->expect(block, pool_->stored_at(0, block).keyed);
    finding.source = RepairSource::kContent;
    return true;
  }
  finding.part = DamagedPart::kLive;
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

bool ImageGuard::visit_parity(std::size_t number, Finding& finding) noexcept {
  const BlockState state = parity_->look(number);
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
    // What golden shares with the image is there already, and expected.
    if (stored.bytes.data() == live.data()) continue;
    const auto part = stored.bytes.subspan(from, to - from);
    if (std::memcmp(live.data() + from, part.data(), part.size()) != 0) ++result.rewritten;
    if (part.size() != live.size()) {
      if (!image_->write(i * size + from, part)) ++result.refused;
    } else {
      // The copy's hash is verified and the seal follows it; the bytes are not hashed once more.
      if (!image_->table().admits(i, stored.keyed)) image_->expect(i, stored.keyed);
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
  if (pool_ != nullptr && !pool_->keep_golden(offset, bytes)) return false;
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
