// How a pool finds right bytes for others, and mends its own.

#include <algorithm>
#include <cstring>

#include "selfheal/guard/snapshot_pool.hpp"

namespace selfheal {

std::span<const std::byte> SnapshotPool::find_genuine(std::size_t block) const noexcept {
  const auto golden = golden_block(block);
  if (golden.data() != image_->block(block).data() && image_->is_genuine(block, golden)) {
    return golden;
  }
  // Lists as they are: what they lead to is verified.
  const auto find_in = [&](const GenerationLists& lists) -> std::span<const std::byte> {
    for (std::size_t place = 1; place < lists.count(); ++place) {
      for (const std::uint32_t slot : {lists.list(place)[block], lists.second(place)[block]}) {
        if (slot >= slots_.size()) continue;
        const auto bytes = slot_bytes(slot, block);
        if (image_->is_genuine(block, bytes)) return bytes;
      }
    }
    return {};
  };
  const auto found = find_in(lists_);
  return found.empty() ? find_in(golden_list_) : found;
}

bool SnapshotPool::is_golden(std::size_t block, std::span<const std::byte> content) const noexcept {
  const StoredBlock golden = stored_at(0, block);
  return golden.is_sound && std::equal(golden.bytes.begin(), golden.bytes.end(), content.begin());
}

// What golden shares is swept as live bytes; here it is held to golden's seals, which are those
// that the image expects there.
bool SnapshotPool::mend_shared(std::size_t block, bool* changed) noexcept {
  const std::uint64_t keyed = golden_hash(block, image_->block(block));
  const bool is_right = golden_seals_.admits(block, keyed);
  if (is_right ? golden_seals_.agrees(block) : !image_->check_block(block)) return true;
  *changed = true;
  const auto admits = [&](std::uint64_t hash) { return image_->table().admits(block, hash); };
  const std::uint64_t hash = image_->kept_key().hash(block, image_->block(block), admits);
  if (!admits(hash)) return false;
  golden_seals_.put(block, hash);
  return true;
}

bool SnapshotPool::mend_golden(std::size_t block, bool* changed) noexcept {
  *changed = false;
  // The list first: a damaged one leads to another block's slot, which is not to be written.
  if (!copies_golden() &&
      !golden_list_.mend(1, block / GenerationLists::kChunk, image_->kept_key(), changed)) {
    return false;
  }
  const std::uint32_t slot = golden_slot(block);
  if (!copies_golden() && slot == kNone) return mend_shared(block, changed);
  const auto bytes =
      slot == kNone ? arena().subspan(block * image_->block_bytes(), image_->block(block).size())
                    : slot_bytes(slot, block);
  const auto admits = [&](std::span<const std::byte> content) {
    return golden_seals_.admits(block, golden_hash(block, content));
  };
  if (!admits(bytes)) {
    *changed = true;
    const auto live = image_->block(block);
    if (!admits(live)) return false;
    std::memcpy(bytes.data(), live.data(), bytes.size());
    if (!admits(bytes)) return false;
  }
  if (!golden_seals_.agrees(block) || *changed) {
    *changed = true;
    golden_seals_.put(block, golden_hash(block, bytes));
  }
  return true;
}

// Makes a slot's record that of a block whose genuine content it has; false if it has not.
bool SnapshotPool::claim(std::size_t slot, std::size_t block) noexcept {
  const std::uint64_t keyed = slot_hash(slot, block, slot_bytes(slot, block));
  if (!slot_admits(slot, keyed)) return false;
  const auto number = static_cast<std::uint32_t>(block);
  slots_[slot] = {{keyed, keyed}, {number, number}};
  return true;
}

// The block that the lists have in a slot, or kNone. is_known: whether all lists could be asked.
std::uint32_t SnapshotPool::owner_of(std::size_t slot, bool* is_known) const noexcept {
  *is_known = true;
  for (const GenerationLists* lists : {&lists_, &golden_list_}) {
    for (std::size_t place = 1; place < lists->count(); ++place) {
      const auto list = lists->list(place);
      const auto at = std::find(list.begin(), list.end(), static_cast<std::uint32_t>(slot));
      const auto block = static_cast<std::size_t>(at - list.begin());
      if (at != list.end() && lists->is_sound(place, block, image_->kept_key())) {
        return static_cast<std::uint32_t>(block);
      }
      for (std::size_t i = 0; i < list.size(); i += GenerationLists::kChunk) {
        *is_known = *is_known && lists->is_sound(place, i, image_->kept_key());
      }
    }
  }
  return kNone;
}

bool SnapshotPool::mend_slot(std::size_t index, std::size_t* block, bool* changed) noexcept {
  *changed = false;
  *block = 0;
  const Slot& slot = slots_[index];
  const auto [first, second] = slot.block;
  const bool is_plain = first == second && slot.keyed[0] == slot.keyed[1];
  if (is_plain && first == kNone) return true;  // free
  if (is_plain && first < image_->block_count() &&
      slot_admits(index, slot_hash(index, first, slot_bytes(index, first)))) {
    return true;
  }
  // Something is damaged: the lists say whose it is.
  bool is_known = true;
  const std::uint32_t owner = owner_of(index, &is_known);
  if (owner == kNone) {
    if (!is_known) return true;  // that list is refused when it is used, and its sweep reports it
    slots_[index] = {};
    *changed = true;
    return true;
  }
  *changed = true;
  *block = owner;
  if (claim(index, owner)) return true;
  if (golden_slot(owner) == index) {  // golden's own visit mends it, or says that it cannot
    *changed = false;
    return true;
  }
  // Not whether the image expects these bytes: that may be another generation's block.
  const auto live = image_->block(owner);
  if (!slot_admits(index, slot_hash(index, owner, live))) return false;
  const auto bytes = slot_bytes(index, owner);
  std::memcpy(bytes.data(), live.data(), bytes.size());
  return claim(index, owner);
}

bool SnapshotPool::mend_list(std::size_t index, std::size_t* place, bool* changed) noexcept {
  *place = 1 + index / lists_.chunks();
  if (*place == lists_.places()) {  // golden's own
    *place = 0;
    return golden_list_.mend(1, index % lists_.chunks(), image_->kept_key(), changed);
  }
  return lists_.mend(*place, index % lists_.chunks(), image_->kept_key(), changed);
}

void SnapshotPool::mend_lists() noexcept {
  for (std::size_t place = 1; place < lists_.count(); ++place) {
    lists_.mend(place, image_->kept_key());
  }
  if (!copies_golden()) golden_list_.mend(1, image_->kept_key());
}

std::size_t SnapshotPool::renew_golden(std::span<const std::byte> bytes) noexcept {
  std::size_t count = 0;
  const HashSchedule schedule = image_->kept_key().fresh();
  for (std::size_t i = 0; i < image_->block_count(); ++i) {
    if (stored_at(0, i).is_sound) continue;
    const std::uint32_t slot = golden_slot(i);
    if (slot == kNone && !copies_golden()) continue;
    const auto copy = slot == kNone
                          ? arena().subspan(i * image_->block_bytes(), image_->block(i).size())
                          : slot_bytes(slot, i);
    std::memcpy(copy.data(), bytes.data() + i * image_->block_bytes(), copy.size());
    const std::uint64_t keyed = keyed_hash(schedule, i, copy);
    golden_seals_.put(i, keyed);
    if (slot != kNone) {
      const auto number = static_cast<std::uint32_t>(i);
      slots_[slot] = {{keyed, keyed}, {number, number}};
    }
    ++count;
  }
  return count;
}

}  // namespace selfheal
