#include "selfheal/guard/snapshot_pool.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

#include "guard/sizes.hpp"
#include "selfheal/base/argument_error.hpp"

namespace selfheal {
namespace {

constexpr std::size_t kRow = WeightImage::kRow;
// Golden's own list needs a number, and no generation has this one.
constexpr Generation kGoldenName = ~Generation{0};

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

std::size_t checked_places(std::uint64_t max_generations) {
  if (max_generations < 1 || max_generations > SnapshotPool::kMaxGenerations) {
    refuse("max_generations", "an integer from 1 to 4096", max_generations);
  }
  return static_cast<std::size_t>(max_generations);
}

// Goes through blocks in order, with the changes that touch each.
class ChangedBlocks {
 public:
  explicit ChangedBlocks(std::span<const ByteChange> changes) noexcept : changes_(changes) {}

  // Whether a change touches the block at `begin`; calls come with ascending begins.
  bool touches(std::size_t begin, std::size_t size) noexcept {
    while (next_ < changes_.size() &&
           changes_[next_].offset + changes_[next_].bytes.size() <= begin) {
      ++next_;
    }
    return next_ < changes_.size() && changes_[next_].offset < begin + size;
  }
  // Writes them over `content`, the block at `begin`.
  void apply(std::size_t begin, std::span<std::byte> content) const noexcept {
    const std::size_t end = begin + content.size();
    for (std::size_t i = next_; i < changes_.size() && changes_[i].offset < end; ++i) {
      const auto& [offset, bytes] = changes_[i];
      const std::size_t from = std::max(offset, begin);
      const std::size_t to = std::min(offset + bytes.size(), end);
      if (from >= to) continue;
      std::memcpy(content.data() + (from - begin), bytes.data() + (from - offset), to - from);
    }
  }

 private:
  std::span<const ByteChange> changes_;
  std::size_t next_ = 0;
};

}  // namespace

SnapshotPool::SnapshotPool(WeightImage& image, std::uint64_t capacity_blocks,
                           std::uint64_t max_generations, bool copies_golden)
    : image_(&image),
      lists_(image.block_count(), checked_places(max_generations)),
      golden_list_(image.block_count(), copies_golden ? 1 : 2),
      golden_blocks_(copies_golden ? image.block_count() : 0),
      golden_seals_(image.block_count()),
      scratch_(image.block_bytes()) {
  const std::size_t blocks = image.block_count();
  if (capacity_blocks > kNone / 2) {
    refuse("capacity_blocks", "an integer from 0 to 2147483647", capacity_blocks);
  }
  const auto capacity = static_cast<std::size_t>(capacity_blocks);
  arena_.resize(detail::product("capacity_blocks", golden_blocks_ + capacity, image.block_bytes()) /
                sizeof(Line));
  slots_.resize(capacity);
  is_used_.resize(capacity);
  if (copies_golden) {
    std::memcpy(arena_.data(), image.live().data(), image.nbytes());
  } else {
    golden_list_.append(kGoldenName, image.kept_key());
  }
  const HashSchedule schedule = image.kept_key().fresh();
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::uint64_t keyed = keyed_hash(schedule, i, golden_block(i));
    if (!image.table().admits(i, keyed)) {
      throw std::runtime_error("image: expected undamaged bytes to copy as golden, got block " +
                               std::to_string(i) + " with a wrong hash");
    }
    golden_seals_.put(i, keyed);
  }
  recount();
}

std::span<std::byte> SnapshotPool::slot_bytes(std::size_t slot, std::size_t block) noexcept {
  return arena().subspan((golden_blocks_ + slot) * image_->block_bytes(),
                         image_->block(block).size());
}

std::span<const std::byte> SnapshotPool::slot_bytes(std::size_t slot,
                                                    std::size_t block) const noexcept {
  return arena().subspan((golden_blocks_ + slot) * image_->block_bytes(),
                         image_->block(block).size());
}

std::uint64_t SnapshotPool::slot_hash(std::size_t slot, std::size_t block,
                                      std::span<const std::byte> content) const noexcept {
  const auto admits = [&](std::uint64_t hash) { return slot_admits(slot, hash); };
  return image_->kept_key().hash(block, content, admits);
}

std::uint64_t SnapshotPool::golden_hash(std::size_t block,
                                        std::span<const std::byte> content) const noexcept {
  const auto admits = [&](std::uint64_t hash) { return golden_seals_.admits(block, hash); };
  return image_->kept_key().hash(block, content, admits);
}

StoredBlock SnapshotPool::stored_at(std::size_t place, std::size_t block) const noexcept {
  const std::uint32_t slot = place == 0 ? kNone : lists_.list(place)[block];
  if (slot == kNone) {
    const auto bytes = golden_block(block);
    const std::uint64_t keyed = golden_hash(block, bytes);
    return {bytes, golden_seals_.admits(block, keyed), keyed};
  }
  if (slot >= slots_.size()) return {};
  const auto bytes = slot_bytes(slot, block);
  const std::uint64_t keyed = slot_hash(slot, block, bytes);
  return {bytes, slot_admits(slot, keyed), keyed};
}

// As stored_at(), for consecutive blocks; their hashes are taken together.
void SnapshotPool::stored_row(std::size_t place, std::size_t first,
                              std::span<StoredBlock> row) const noexcept {
  const std::size_t size = image_->block_bytes();
  const std::span<const std::uint32_t> list =
      place == 0 ? std::span<const std::uint32_t>{} : lists_.list(place);
  const auto slot_of = [&](std::size_t i) { return place == 0 ? kNone : list[first + i]; };
  std::array<const std::byte*, kRow> bytes{};
  std::array<std::uint64_t, kRow> hashes{};
  const std::size_t whole = std::min(row.size(), image_->nbytes() / size - first);
  std::size_t count = 0;
  for (; count < whole; ++count) {
    const std::uint32_t slot = slot_of(count);
    if (slot != kNone && slot >= slots_.size()) break;
    bytes[count] =
        (slot == kNone ? golden_block(first + count) : slot_bytes(slot, first + count)).data();
  }
  keyed_hashes(image_->kept_key().raw_schedule(), first, std::span(bytes).first(count), size,
               hashes);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const bool is_sound =
        i < count && (slot_of(i) == kNone ? golden_seals_.admits(first + i, hashes[i])
                                          : slot_admits(slot_of(i), hashes[i]));
    // What is in doubt is looked at alone, for the last word.
    row[i] =
        is_sound ? StoredBlock{{bytes[i], size}, true, hashes[i]} : stored_at(place, first + i);
  }
}

StoredBlock SnapshotPool::stored_block(Generation generation, std::size_t block) const noexcept {
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count() || !lists_.is_sound(place, block, image_->kept_key())) return {};
  return stored_at(place, block);
}

std::size_t SnapshotPool::mended_place(Generation generation) noexcept {
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count()) return place;
  if (!copies_golden() && !golden_list_.mend(1, image_->kept_key())) return lists_.count();
  const bool is_whole = lists_.mend(place, image_->kept_key());
  return is_whole && lists_.at(place) == generation ? place : lists_.count();
}

bool SnapshotPool::read(Generation generation, std::span<std::byte> bytes) noexcept {
  const std::size_t place = mended_place(generation);
  if (place == lists_.count()) return false;
  for (std::size_t i = 0; i < image_->block_count(); ++i) {
    const StoredBlock stored = stored_at(place, i);
    if (!stored.is_sound) return false;
    std::memcpy(bytes.data() + i * image_->block_bytes(), stored.bytes.data(), stored.bytes.size());
  }
  return true;
}

// The slot of a generation that holds this very content of the block already.
std::uint32_t SnapshotPool::find_shared(std::size_t block, std::uint64_t keyed,
                                        std::span<const std::byte> content) const noexcept {
  for (std::size_t place = lists_.count(); place-- > 1;) {
    const std::uint32_t slot = lists_.list(place)[block];
    if (slot < slots_.size() && slot_admits(slot, keyed) &&
        equal(slot_bytes(slot, block), content)) {
      return slot;
    }
  }
  return kNone;
}

bool SnapshotPool::are_inside(std::span<const ByteChange> changes) const noexcept {
  std::size_t end = 0;
  for (const auto& [offset, bytes] : changes) {
    if (offset < end || offset > image_->nbytes() || bytes.size() > image_->nbytes() - offset) {
      return false;
    }
    end = offset + bytes.size();
  }
  return true;
}

TakeResult SnapshotPool::take(Generation at_least, std::span<const ByteChange> changes) noexcept {
  if (!are_inside(changes)) return {SnapshotStatus::kBadRange, 0};
  if (lists_.count() == lists_.places()) return {SnapshotStatus::kTooManyGenerations, 0};
  mend_lists();
  recount();
  const HashSchedule schedule = image_->kept_key().fresh();
  const std::size_t block_bytes = image_->block_bytes();
  const auto draft = lists_.draft();
  // Pass 1 finds what can be shared and how much room the rest needs; it changes nothing that
  // counts. Blocks that need room of their own are marked by kNone - 1.
  constexpr std::uint32_t kNew = kNone - 1;
  std::size_t needed = 0;
  ChangedBlocks changed(changes);
  for (std::size_t i = 0; i < draft.size(); ++i) {
    draft[i] = kNone;
    if (!image_->check_block(i)) return {SnapshotStatus::kCorrupt, 0};
    std::span<const std::byte> content = image_->block(i);
    const bool is_shared = !copies_golden() && golden_slot(i) == kNone;
    // A block that golden shares and that is another one now: it was written past this pool.
    if (is_shared && !golden_seals_.admits(i, golden_hash(i, content))) {
      return {SnapshotStatus::kCorrupt, 0};
    }
    if (changed.touches(i * block_bytes, content.size())) {
      const auto copy = std::span(scratch_).first(content.size());
      std::memcpy(copy.data(), content.data(), copy.size());
      changed.apply(i * block_bytes, copy);
      content = copy;
    }
    if (equal(content, golden_block(i))) continue;
    draft[i] = find_shared(i, keyed_hash(schedule, i, content), content);
    if (draft[i] != kNone) continue;
    draft[i] = kNew;
    needed += is_shared ? 2 : 1;
  }
  if (needed > free_count_) return {SnapshotStatus::kArenaFull, 0};
  ChangedBlocks again(changes);
  std::uint32_t slot = 0;
  for (std::size_t i = 0; i < draft.size(); ++i) {
    if (draft[i] != kNew) continue;
    const bool is_kept = copies_golden() || golden_slot(i) != kNone || copy_golden(i);
    slot = next_free(slot);
    const auto copy = slot_bytes(slot, i);
    std::memcpy(copy.data(), image_->block(i).data(), copy.size());
    if (!is_kept || !image_->is_genuine(i, copy)) {  // damaged since it was looked at
      release_golden();
      return {SnapshotStatus::kCorrupt, 0};
    }
    if (again.touches(i * block_bytes, copy.size())) again.apply(i * block_bytes, copy);
    const auto block = static_cast<std::uint32_t>(i);
    const std::uint64_t keyed = keyed_hash(schedule, i, copy);
    slots_[slot] = {{keyed, keyed}, {block, block}};
    is_used_[slot] = true;
    --free_count_;
    draft[i] = slot;
  }
  const Generation generation = std::max(next_generation_, at_least);
  lists_.append(generation, image_->kept_key());
  next_generation_ = generation + 1;
  return {SnapshotStatus::kOk, generation};
}

RestoreResult SnapshotPool::restore(Generation generation, std::size_t first, std::size_t count,
                                    std::span<std::uint32_t> refused) noexcept {
  RestoreResult result;
  if (!contains(generation)) {
    result.status = SnapshotStatus::kUnknownGeneration;
    return result;
  }
  const std::size_t blocks = image_->block_count();
  first = std::min(first, blocks);
  const std::size_t end = first + std::min(count, blocks - first);
  const std::size_t place = mended_place(generation);
  std::array<StoredBlock, kRow> row;
  for (std::size_t begin = first; begin < end; begin += kRow) {
    const std::size_t size = std::min(kRow, end - begin);
    if (place != lists_.count()) stored_row(place, begin, std::span(row).first(size));
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
        image_->expect(i, stored.keyed);
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

std::uint32_t SnapshotPool::next_free(std::size_t from) const noexcept {
  while (is_used_[from]) ++from;
  return static_cast<std::uint32_t>(from);
}

// Who uses which slot, and which are free: from the lists alone, since what the slots say of
// themselves may be damaged.
void SnapshotPool::recount() noexcept {
  std::fill(is_used_.begin(), is_used_.end(), false);
  const auto use = [this](std::span<const std::uint32_t> list) {
    for (const std::uint32_t slot : list) {
      if (slot < slots_.size()) is_used_[slot] = true;
    }
  };
  for (std::size_t place = 1; place < lists_.count(); ++place) use(lists_.list(place));
  if (!copies_golden()) use(golden_list_.list(1));
  free_count_ = 0;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (is_used_[i]) continue;
    slots_[i] = {};
    ++free_count_;
  }
}

SnapshotStatus SnapshotPool::drop(Generation generation) noexcept {
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count()) return SnapshotStatus::kUnknownGeneration;
  if (place == 0) return SnapshotStatus::kGolden;
  if (lists_.is_pinned(place)) return SnapshotStatus::kPinned;
  mend_lists();
  lists_.remove(place);
  release_golden();
  return SnapshotStatus::kOk;
}

// Copies golden's block out of the live one that it shares. There has to be a free slot.
bool SnapshotPool::copy_golden(std::size_t block) noexcept {
  const std::uint32_t slot = next_free(0);
  const auto copy = slot_bytes(slot, block);
  std::memcpy(copy.data(), image_->block(block).data(), copy.size());
  const std::uint64_t keyed = golden_hash(block, copy);
  if (!golden_seals_.admits(block, keyed)) return false;
  const auto number = static_cast<std::uint32_t>(block);
  slots_[slot] = {{keyed, keyed}, {number, number}};
  if (!golden_list_.set(1, block, slot, image_->kept_key())) return false;
  is_used_[slot] = true;
  --free_count_;
  return true;
}

bool SnapshotPool::keep_golden(std::size_t offset, std::span<const std::byte> bytes) noexcept {
  if (copies_golden()) return true;
  const std::size_t size = image_->block_bytes();
  recount();
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t block = (offset + at) / size;
    const std::size_t within = (offset + at) % size;
    const std::size_t count = std::min(size - within, bytes.size() - at);
    const auto live = image_->block(block).subspan(within, count);
    if (golden_slot(block) == kNone && !equal(live, bytes.subspan(at, count)) &&
        (free_count_ == 0 || !copy_golden(block))) {
      release_golden();
      return false;
    }
    at += count;
  }
  return true;
}

// Forgets golden's copies of blocks that it shares with the live ones again, where no generation
// differs; and counts anew what is free.
void SnapshotPool::release_golden() noexcept {
  for (std::size_t i = 0; !copies_golden() && i < image_->block_count(); ++i) {
    if (golden_slot(i) == kNone || !image_->check_block(i) ||
        !golden_seals_.admits(i, image_->table().get(i))) {
      continue;
    }
    const auto differs = [&](std::size_t place) { return lists_.list(place)[i] != kNone; };
    bool is_needed = false;
    for (std::size_t place = 1; place < lists_.count(); ++place) is_needed |= differs(place);
    if (!is_needed) golden_list_.set(1, i, kNone, image_->kept_key());
  }
  recount();
}

SnapshotStatus SnapshotPool::pin(Generation generation) noexcept {
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count()) return SnapshotStatus::kUnknownGeneration;
  if (place != 0) lists_.set_pinned(place, true);
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::unpin(Generation generation) noexcept {
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count()) return SnapshotStatus::kUnknownGeneration;
  if (place == 0) return SnapshotStatus::kGolden;
  lists_.set_pinned(place, false);
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::verify(Generation generation, std::span<std::uint32_t> damaged,
                                    std::size_t* count) const noexcept {
  *count = 0;
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count()) return SnapshotStatus::kUnknownGeneration;
  bool is_list_sound = true;
  for (std::size_t i = 0; i < image_->block_count(); ++i) {
    if (i % GenerationLists::kChunk == 0) {
      is_list_sound = lists_.is_sound(place, i, image_->kept_key());
    }
    if (is_list_sound && stored_at(place, i).is_sound) continue;
    if (*count < damaged.size()) damaged[*count] = static_cast<std::uint32_t>(i);
    ++*count;
  }
  return SnapshotStatus::kOk;
}

SnapshotStatus SnapshotPool::changed_blocks(Generation generation, std::span<std::uint32_t> changed,
                                            std::size_t* count) const noexcept {
  *count = 0;
  const std::size_t place = lists_.find(generation);
  if (place == lists_.count()) return SnapshotStatus::kUnknownGeneration;
  if (place == 0) return SnapshotStatus::kOk;
  const auto list = lists_.list(place);
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i] == kNone) continue;
    if (*count < changed.size()) changed[*count] = static_cast<std::uint32_t>(i);
    ++*count;
  }
  return SnapshotStatus::kOk;
}

std::size_t SnapshotPool::generations(std::span<Generation> found) const noexcept {
  const std::size_t count = lists_.count();
  for (std::size_t i = 0; i < std::min(count, found.size()); ++i) found[i] = lists_.at(i);
  return count;
}

bool SnapshotPool::contains(Generation generation) const noexcept {
  return lists_.find(generation) != lists_.count();
}

bool SnapshotPool::is_pinned(Generation generation) const noexcept {
  const std::size_t place = lists_.find(generation);
  return place != lists_.count() && lists_.is_pinned(place);
}

std::size_t SnapshotPool::memory_bytes() const noexcept {
  return sizeof *this - sizeof lists_ - sizeof golden_list_ + lists_.memory_bytes() +
         golden_list_.memory_bytes() + arena_.capacity() * sizeof(Line) +
         golden_seals_.memory_bytes() + slots_.capacity() * sizeof(Slot) + scratch_.capacity() +
         is_used_.capacity() / 8;
}

}  // namespace selfheal
