# Cross-compile for 64-bit ARM Linux: clang-14 and lld-14 against a Debian bullseye sysroot.
#
# The wheel is manylinux2014 (glibc 2.17). glibc-2.17.h pins the mathematical functions, which would
# otherwise make it manylinux_2_31. libstdc++ and libgcc are linked statically and kept private, for
# devices with an older libstdc++.so.6 and because the runtimes bring copies of their own.
#
# The standard library is bullseye's libstdc++ 10: std::span, <concepts>, std::midpoint and
# std::countl_zero are there; std::bit_cast, std::source_location, <format> and from_chars for
# floating point are not. With SELFHEAL_ARM_SYSROOT set to a bookworm sysroot they are
# (libstdc++ 12), but the wheel is then bound to a newer glibc.

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)

if(NOT SELFHEAL_ARM_SYSROOT)
  set(SELFHEAL_ARM_SYSROOT "$ENV{SELFHEAL_ARM_SYSROOT}")
endif()
if(NOT IS_DIRECTORY "${SELFHEAL_ARM_SYSROOT}/usr/include")
  message(FATAL_ERROR "SELFHEAL_ARM_SYSROOT: expected an arm64 sysroot, got '${SELFHEAL_ARM_SYSROOT}'")
endif()
# try_compile reads this file again in a project of its own.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SELFHEAL_ARM_SYSROOT)
set(CMAKE_SYSROOT "${SELFHEAL_ARM_SYSROOT}")

set(CMAKE_C_COMPILER clang-14)
set(CMAKE_CXX_COMPILER clang++-14)
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_STRIP llvm-strip-14)

set(CMAKE_CXX_FLAGS_INIT "-include ${CMAKE_CURRENT_LIST_DIR}/glibc-2.17.h")
set(selfheal_link_flags "-fuse-ld=lld -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL")
foreach(kind EXE SHARED MODULE)
  set(CMAKE_${kind}_LINKER_FLAGS_INIT "${selfheal_link_flags}")
endforeach()

# Programs run here, libraries and headers belong to the target; pybind11 is headers only and
# comes from the build machine.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
