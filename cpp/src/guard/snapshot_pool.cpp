#include "selfheal/guard/snapshot_pool.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

#include "selfheal/base/argument_error.hpp"
#include "selfheal/base/crc32c.hpp"

namespace selfheal {
namespace {

constexpr std::size_t kRow = 8;  // blocks that are hashed together

// The first word tells nearly always if they differ, without a call.
bool equal(std::span<const std::byte> a, std::span<const std::byte> b) noexcept {
  std::uint64_t x = 0;
  std::uint64_t y = 0;
  if (a.size() >= sizeof x) {
    std::memcpy(&x, a.data(), sizeof x);
    std::memcpy(&y, b.data(), sizeof y);
    if (x != y) return false;
  }
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

SnapshotPool::SnapshotPool(WeightImage& image, std::size_t capacity_blocks,
                           std::size_t max_generations)
    : image_(&image), golden_seals_(image.block_count()) {
  const std::size_t blocks = image.block_count();
  if (capacity_blocks > kNone / 2) {
    refuse("capacity_blocks", "an integer from 0 to 2147483647", capacity_blocks);
  }
  if (max_generations < 1 || max_generations > kMaxGenerations) {
    refuse("max_generations", "an integer from 1 to 4096", max_generations);
  }
  arena_.resize((blocks + capacity_blocks) * image.block_bytes() / sizeof(Line));
  slots_.resize(capacity_blocks);
  entries_.resize(max_generations);
  slot_table_.assign(2 * max_generations * blocks, kNone);
  std::memcpy(arena_.data(), image.live().data(), image.nbytes());
  for (std::size_t i = 0; i < blocks; ++i) {
    if (!image.is_genuine(i, golden_block(i))) {
      throw std::runtime_error("image: expected undamaged bytes to copy as golden, got block " +
                               std::to_string(i) + " with a wrong checksum");
    }
    golden_seals_.put(i, image.seal_of(i, golden_block(i)));
  }
  recount();
  entries_[0].is_pinned = true;
  seal_list(0);
}

std::span<std::uint32_t> SnapshotPool::slots_of(std::size_t entry) noexcept {
  const std::size_t blocks = image_->block_count();
  return std::span(slot_table_).subspan(entry * blocks, blocks);
}

std::span<const std::uint32_t> SnapshotPool::slots_of(std::size_t entry) const noexcept {
  const std::size_t blocks = image_->block_count();
  return std::span(slot_table_).subspan(entry * blocks, blocks);
}

std::span<std::uint32_t> SnapshotPool::list_copy(std::size_t entry) noexcept {
  return slots_of(entries_.size() + entry);
}

void SnapshotPool::seal_list(std::size_t entry) noexcept {
  const auto list = slots_of(entry);
  std::copy(list.begin(), list.end(), list_copy(entry).begin());
  entries_[entry].list_crc.fill(crc32c(std::as_bytes(list)));
}

std::size_t SnapshotPool::find(Generation generation) const noexcept {
  if (generation == 0) return 0;  // whatever its entry says
  for (std::size_t entry = 0; entry < used_; ++entry) {
    if (entries_[entry].generation == generation) return entry;
  }
  return used_;
}

std::span<std::byte> SnapshotPool::slot_bytes(std::size_t slot, std::size_t block) noexcept {
  return arena().subspan((image_->block_count() + slot) * image_->block_bytes(),
                         image_->block(block).size());
}

std::span<const std::byte> SnapshotPool::slot_bytes(std::size_t slot,
                                                    std::size_t block) const noexcept {
  return arena().subspan((image_->block_count() + slot) * image_->block_bytes(),
                         image_->block(block).size());
}

std::span<std::byte> SnapshotPool::golden_bytes(std::size_t block) noexcept {
  return arena().subspan(block * image_->block_bytes(), image_->block(block).size());
}

bool SnapshotPool::list_ok(std::size_t entry) const noexcept {
  const std::uint32_t crc = crc32c(std::as_bytes(slots_of(entry)));
  return crc == entries_[entry].list_crc[0] || crc == entries_[entry].list_crc[1];
}

StoredBlock SnapshotPool::stored(std::size_t entry, std::size_t block) const noexcept {
  const std::uint32_t slot = entry == 0 ? kNone : slots_of(entry)[block];
  const KeptKey& key = image_->kept_key();
  if (slot == kNone) {
    const auto bytes = golden_block(block);
    const auto admits = [&](std::uint64_t hash) { return golden_seals_.admits(block, hash); };
    const std::uint64_t keyed = key.hash(block, bytes, admits);
    return {bytes, admits(keyed), keyed};
  }
  if (slot >= slots_.size() || slots_[slot].block != block) return {};
  const auto bytes = slot_bytes(slot, block);
  const auto admits = [&](std::uint64_t hash) { return slot_admits(slot, hash); };
  const std::uint64_t keyed = key.hash(block, bytes, admits);
  return {bytes, admits(keyed), keyed};
}

// As stored(), for consecutive blocks; their hashes are taken together.
void SnapshotPool::stored_row(std::size_t entry, std::size_t first,
                              std::span<StoredBlock> row) const noexcept {
  const std::size_t size = image_->block_bytes();
  const std::uint32_t* const slots = slots_of(entry).data() + first;
  const std::byte* const golden = arena().data() + first * size;
  std::array<const std::byte*, kRow> bytes{};
  std::array<std::uint64_t, kRow> hashes{};
  const std::size_t whole = std::min(row.size(), image_->nbytes() / size - first);
  std::size_t count = 0;
  for (; count < whole; ++count) {
    const std::uint32_t slot = slots[count];
    if (slot == kNone) {
      bytes[count] = golden + count * size;
    } else if (slot < slots_.size() && slots_[slot].block == first + count) {
      bytes[count] = slot_bytes(slot, first + count).data();
    } else {
      break;
    }
  }
  keyed_hashes(image_->kept_key().raw_schedule(), first, std::span(bytes).first(count), size,
               hashes);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const bool is_sound =
        i < count && (slots[i] == kNone ? golden_seals_.admits(first + i, hashes[i])
                                        : slot_admits(slots[i], hashes[i]));
    // What is in doubt is looked at alone, for the last word.
    row[i] = is_sound ? StoredBlock{{bytes[i], size}, true, hashes[i]} : stored(entry, first + i);
  }
}

StoredBlock SnapshotPool::stored_block(Generation generation, std::size_t block) const noexcept {
  const std::size_t entry = find(generation);
  if (entry == used_ || (entry != 0 && !list_ok(entry))) return {};
  return stored(entry, block);
}

std::span<const std::byte> SnapshotPool::find_genuine(std::size_t block) const noexcept {
  const auto golden = golden_block(block);
  if (image_->is_genuine(block, golden)) return golden;
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].block != block) continue;
    const auto bytes = slot_bytes(slot, block);
    if (image_->is_genuine(block, bytes)) return bytes;
  }
  return {};
}

std::span<const std::byte> SnapshotPool::vouched(std::size_t block,
                                                 const SealTable& seals) const noexcept {
  const StoredBlock golden = stored(0, block);
  if (!golden.is_sound || !seals.has_crc(block, crc32c(golden.bytes))) return {};
  return golden.bytes;
}

bool SnapshotPool::mend_golden(std::size_t block, bool* changed) noexcept {
  const auto bytes = golden_bytes(block);
  const auto admits = [&](std::span<const std::byte> content) {
    return golden_seals_.admits(block, image_->kept_key().hash(block, content));
  };
  *changed = false;
  if (!admits(bytes)) {
    *changed = true;
    const auto live = image_->block(block);
    if (!admits(live)) return false;
    std::memcpy(bytes.data(), live.data(), bytes.size());
    if (!admits(bytes)) return false;
  }
  if (*changed || !golden_seals_.agrees(block)) {
    *changed = true;
    golden_seals_.put(block, image_->seal_of(block, bytes));
  }
  return true;
}

bool SnapshotPool::mend_slot(std::size_t index, std::size_t* block, bool* changed) noexcept {
  *changed = false;
  // Who uses it is asked of the lists: what the slot says of itself may be damaged.
  std::uint32_t references = 0;
  std::uint32_t owner = kNone;
  for (std::size_t entry = 1; entry < used_; ++entry) {
    if (!list_ok(entry)) return true;  // nobody can say; this list is refused when it is used
    const auto list = slots_of(entry);
    const auto at = std::find(list.begin(), list.end(), static_cast<std::uint32_t>(index));
    if (at == list.end()) continue;
    owner = static_cast<std::uint32_t>(at - list.begin());
    ++references;
  }
  if (references == 0) return true;
  *block = owner;
  Slot& slot = slots_[index];
  if (slot.block != owner || slot.references != references) {
    slot.block = owner;
    slot.references = references;
    *changed = true;
  }
  const auto bytes = slot_bytes(index, owner);
  const auto admits = [&](std::uint64_t keyed) { return slot_admits(index, keyed); };
  std::uint64_t keyed = image_->kept_key().hash(owner, bytes, admits);
  if (!admits(keyed)) {
    *changed = true;
    const auto live = image_->block(owner);
    // Not whether the image expects these bytes: that may be another generation's block.
    if (!admits(image_->kept_key().hash(owner, live))) return false;
    std::memcpy(bytes.data(), live.data(), bytes.size());
    keyed = image_->kept_key().hash(owner, bytes);
    if (!admits(keyed)) return false;
  }
  if (slot.keyed[0] != slot.keyed[1]) {
    slot.keyed.fill(keyed);
    *changed = true;
  }
  return true;
}

bool SnapshotPool::mend_list(std::size_t entry, bool* changed) noexcept {
  *changed = false;
  if (entry >= used_) return true;
  const auto list = slots_of(entry);
  const auto copy = list_copy(entry);
  const auto& crc = entries_[entry].list_crc;
  if (crc[0] == crc[1] && list_ok(entry) && std::equal(list.begin(), list.end(), copy.begin())) {
    return true;
  }
  *changed = true;
  if (entry == 0) {
    std::fill(list.begin(), list.end(), kNone);
  } else if (!list_ok(entry)) {
    const std::uint32_t other = crc32c(std::as_bytes(copy));
    if (other != crc[0] && other != crc[1]) return false;
    std::copy(copy.begin(), copy.end(), list.begin());
  }
  seal_list(entry);
  return true;
}

void SnapshotPool::mend_lists() noexcept {
  bool ignored = false;
  for (std::size_t entry = 0; entry < used_; ++entry) mend_list(entry, &ignored);
}

std::size_t SnapshotPool::renew_golden(std::span<const std::byte> bytes) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < image_->block_count(); ++i) {
    if (stored(0, i).is_sound) continue;
    const auto copy = golden_bytes(i);
    std::memcpy(copy.data(), bytes.data() + i * image_->block_bytes(), copy.size());
    golden_seals_.put(i, image_->seal_of(i, copy));
    ++count;
  }
  return count;
}

bool SnapshotPool::differs_from_golden(std::size_t block) const noexcept {
  return !equal(image_->block(block), golden_block(block));
}

// The slot of a generation that holds this very content of the block already.
std::uint32_t SnapshotPool::find_shared(std::size_t block, std::uint64_t keyed) const noexcept {
  for (std::size_t entry = used_; entry-- > 1;) {
    const std::uint32_t slot = slots_of(entry)[block];
    if (slot != kNone && slot < slots_.size() && slots_[slot].block == block &&
        slot_admits(slot, keyed) && equal(slot_bytes(slot, block), image_->block(block))) {
      return slot;
    }
  }
  return kNone;
}

TakeResult SnapshotPool::take(Generation at_least) noexcept {
  if (used_ == entries_.size()) return {SnapshotStatus::kTooManyGenerations, 0};
  mend_lists();
  recount();
  const std::size_t blocks = image_->block_count();
  const std::span<std::uint32_t> table = slots_of(used_);
  // Pass 1 finds what can be shared and how much room the rest needs; it changes nothing that
  // counts, since the table beyond used_ means nothing yet.
  std::size_t needed = 0;
  for (std::size_t i = 0; i < blocks; ++i) {
    table[i] = kNone;
    if (!image_->check_block(i, true)) return {SnapshotStatus::kCorrupt, 0};
    if (!differs_from_golden(i)) continue;
    table[i] = find_shared(i, image_->kept_key().hash(i, image_->block(i)));
    if (table[i] == kNone) ++needed;
  }
  if (needed > free_count_) return {SnapshotStatus::kArenaFull, 0};
  bool is_genuine = true;
  for (std::size_t i = 0; i < blocks; ++i) {
    if (table[i] != kNone) {
      ++slots_[table[i]].references;
    } else if (differs_from_golden(i)) {
      const std::uint32_t index = first_free_;
      if (index == kNone) {  // somebody writes to live memory while we look at it
        is_genuine = false;
        break;
      }
      Slot& slot = slots_[index];
      first_free_ = slot.next_free;
      --free_count_;
      const auto copy = slot_bytes(index, i);
      std::memcpy(copy.data(), image_->block(i).data(), copy.size());
      is_genuine = is_genuine && image_->is_genuine(i, copy);
      const std::uint64_t keyed = image_->kept_key().hash(i, copy);
      slot = {{keyed, keyed}, static_cast<std::uint32_t>(i), 1, kNone};
      table[i] = index;
    }
  }
  if (!is_genuine) {
    recount();
    return {SnapshotStatus::kCorrupt, 0};
  }
  const Generation generation = std::max(next_generation_, at_least);
  entries_[used_] = {generation, {}, false};
  seal_list(used_++);
  next_generation_ = generation + 1;
  return {SnapshotStatus::kOk, generation};
}

RestoreResult SnapshotPool::restore(Generation generation, std::size_t first, std::size_t count,
                                    std::span<std::uint32_t> refused) noexcept {
  RestoreResult result;
  const std::size_t entry = find(generation);
  if (entry == used_) {
    result.status = SnapshotStatus::kUnknownGeneration;
    return result;
  }
  const std::size_t blocks = image_->block_count();
  first = std::min(first, blocks);
  const std::size_t end = first + std::min(count, blocks - first);
  bool is_mended = false;
  const bool is_list_ok = list_ok(entry) || mend_list(entry, &is_mended);
  std::array<StoredBlock, kRow> row;
  for (std::size_t begin = first; begin < end; begin += kRow) {
    const std::size_t size = std::min(kRow, end - begin);
    if (is_list_ok) stored_row(entry, begin, std::span(row).first(size));
    // Neighbours are copied at once.
    std::span<const std::byte> from;
    std::byte* to = nullptr;
    const auto copy = [&] {
      if (!from.empty()) std::memcpy(to, from.data(), from.size());
    };
    for (std::size_t i = begin; i < begin + size; ++i) {
      const StoredBlock& stored = row[i - begin];
      if (!stored.is_sound) {
        if (result.refused < refused.size()) {
          refused[result.refused] = static_cast<std::uint32_t>(i);
        }
        ++result.refused;
        continue;
      }
      if (!image_->table().admits(i, stored.keyed)) {
        image_->expect(i, {crc32c(stored.bytes), stored.keyed});
      }
      const auto live = image_->block(i);
      if (equal(live, stored.bytes)) continue;
      ++result.rewritten;
      if (from.data() + from.size() == stored.bytes.data() && to + from.size() == live.data()) {
        from = {from.data(), from.size() + stored.bytes.size()};
      } else {
        copy();
        from = stored.bytes;
        to = live.data();
      }
    }
    copy();
  }
  return result;
}

// Who uses which slot, and which are free: from the lists alone, since what the slots say of
// themselves, and the chain of free ones, may be damaged.
void SnapshotPool::recount() noexcept {
  for (Slot& slot : slots_) slot.references = 0;
  for (std::size_t entry = 1; entry < used_; ++entry) {
    for (const std::uint32_t slot : slots_of(entry)) {
      if (slot < slots_.size()) ++slots_[slot].references;
    }
  }
  first_free_ = kNone;
  free_count_ = 0;
  for (std::size_t i = slots_.size(); i-- > 0;) {
    if (slots_[i].references != 0) continue;
    slots_[i] = {{}, kNone, 0, first_free_};
    first_free_ = static_cast<std::uint32_t>(i);
    ++free_count_;
  }
}

SnapshotStatus SnapshotPool::drop(Generation generation) noexcept {
  const std::size_t entry = find(generation);
  if (entry == used_) return SnapshotStatus::kUnknownGeneration;
  if (entry == 0) return SnapshotStatus::kGolden;
  if (entries_[entry].is_pinned) return SnapshotStatus::kPinned;
  mend_lists();
  for (std::size_t next = entry + 1; next < used_; ++next) {
    entries_[next - 1] = entries_[next];
    const auto from = slots_of(next);
    std::copy(from.begin(), from.end(), slots_of(next - 1).begin());
    const auto copy = list_copy(next);
    std::copy(copy.begin(), copy.end(), list_copy(next - 1).begin());
  }
  --used_;
  recount();
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::pin(Generation generation) noexcept {
  const std::size_t entry = find(generation);
  if (entry == used_) return SnapshotStatus::kUnknownGeneration;
  entries_[entry].is_pinned = true;
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::unpin(Generation generation) noexcept {
  const std::size_t entry = find(generation);
  if (entry == used_) return SnapshotStatus::kUnknownGeneration;
  if (entry == 0) return SnapshotStatus::kGolden;
  entries_[entry].is_pinned = false;
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::verify(Generation generation, std::span<std::uint32_t> damaged,
                                    std::size_t* count) const noexcept {
  *count = 0;
  const std::size_t entry = find(generation);
  if (entry == used_) return SnapshotStatus::kUnknownGeneration;
  const bool is_list_ok = entry == 0 || list_ok(entry);
  for (std::size_t i = 0; i < image_->block_count(); ++i) {
    if (is_list_ok && stored(entry, i).is_sound) continue;
    if (*count < damaged.size()) damaged[*count] = static_cast<std::uint32_t>(i);
    ++*count;
  }
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::changed_blocks(Generation generation, std::span<std::uint32_t> changed,
                                            std::size_t* count) const noexcept {
  *count = 0;
  const std::size_t entry = find(generation);
  if (entry == used_) return SnapshotStatus::kUnknownGeneration;
  const auto table = slots_of(entry);
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i] == kNone) continue;
    if (*count < changed.size()) changed[*count] = static_cast<std::uint32_t>(i);
    ++*count;
  }
  return SnapshotStatus::kOk;
}

std::size_t SnapshotPool::generations(std::span<Generation> found) const noexcept {
  for (std::size_t i = 0; i < std::min(used_, found.size()); ++i) {
    found[i] = entries_[i].generation;
  }
  return used_;
}

bool SnapshotPool::contains(Generation generation) const noexcept {
  return find(generation) != used_;
}

bool SnapshotPool::is_pinned(Generation generation) const noexcept {
  const std::size_t entry = find(generation);
  return entry != used_ && entries_[entry].is_pinned;
}

std::size_t SnapshotPool::memory_bytes() const noexcept {
  return sizeof *this + arena_.capacity() * sizeof(Line) + golden_seals_.memory_bytes() +
         slot_table_.capacity() * sizeof(std::uint32_t) + slots_.capacity() * sizeof(Slot) +
         entries_.capacity() * sizeof(Entry);
}

}  // namespace selfheal
