#pragma once

namespace selfheal::runtime {

/// While it lives, notices that code of others prints in this thread through C's `stderr` stream
/// are held back; other lines, errors among them, are passed on when they are complete, or when it
/// ends.
///
/// Others lose nothing: the file descriptor is not touched, so that neither other processes
/// nor code that writes to it directly notice, and what other threads print through the stream goes
/// where it always does. While some object of this class lives, `stderr` is a stream without a file
/// descriptor of its own (`fileno` gives -1). Elsewhere than with glibc nothing is held back.
///
/// Objects may nest, and live in several threads at once.
class QuietStderr {
 public:
  QuietStderr();
  QuietStderr(const QuietStderr&) = delete;
  QuietStderr& operator=(const QuietStderr&) = delete;
  ~QuietStderr();
};

}  // namespace selfheal::runtime
