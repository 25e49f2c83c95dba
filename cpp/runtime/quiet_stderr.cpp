#include "quiet_stderr.hpp"

#include <cstdio>  // says whether it is glibc

#ifdef __GLIBC__

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <mutex>
#include <new>
#include <string>
#include <string_view>

namespace selfheal::runtime {

namespace {

constexpr std::array<std::string_view, 3> kNotices = {"VERBOSE:", "INFO:", "WARNING:"};

thread_local int depth = 0;
thread_local std::string line;  // what this thread has printed of a line that has not ended

void write_all(std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // as for any line that cannot be written
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

// At once, since the library may abort the process after it has said why.
void pass_on_line() noexcept {
  bool is_notice = false;
  for (const std::string_view notice : kNotices) is_notice |= line.starts_with(notice);
  if (!is_notice) write_all(line);
  line.clear();
}

ssize_t print(void*, const char* text, std::size_t size) {
  std::string_view rest(text, size);
  if (depth == 0) {
    write_all(rest);
    return static_cast<ssize_t>(size);
  }
  while (!rest.empty()) {
    const std::size_t end = rest.find('\n');
    const std::string_view part = rest.substr(0, end == rest.npos ? rest.size() : end + 1);
    rest.remove_prefix(part.size());
    try {
      line += part;
    } catch (const std::bad_alloc&) {  // no exception may pass C's stream
      write_all(part);
      continue;
    }
    if (part.back() == '\n') pass_on_line();
  }
  return static_cast<ssize_t>(size);
}

// The stream is never closed: a thread may have read the pointer, and print a moment later.
std::FILE* own_stream() {
  static std::FILE* const stream = [] {
    std::FILE* const made = fopencookie(nullptr, "w", {nullptr, &print, nullptr, nullptr});
    if (made != nullptr) std::setvbuf(made, nullptr, _IONBF, 0);
    return made;
  }();
  return stream;
}

std::mutex& mutex() {
  static auto& instance = *new std::mutex();
  return instance;
}

int users = 0;
std::FILE* replaced = nullptr;

}  // namespace

QuietStderr::QuietStderr() {
  const std::lock_guard lock(mutex());
  ++depth;
  if (users++ == 0) {
    replaced = stderr;
    if (std::FILE* const stream = own_stream(); stream != nullptr) stderr = stream;
  }
}

QuietStderr::~QuietStderr() {
  {
    const std::lock_guard lock(mutex());
    if (--users == 0) stderr = replaced;
  }
  if (--depth == 0) pass_on_line();
}

}  // namespace selfheal::runtime

#else

namespace selfheal::runtime {

QuietStderr::QuietStderr() = default;
QuietStderr::~QuietStderr() = default;

}  // namespace selfheal::runtime

#endif
