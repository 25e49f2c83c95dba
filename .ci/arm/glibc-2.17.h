// Included before every source file of the cross-build: ask for the mathematical functions by the
// version they had in glibc 2.17. Since 2.27 (float) and 2.29 (double) they exist a second time,
// without the old error handling; linked against those, the wheel would be manylinux_2_31.
#pragma once
#define SELFHEAL_OLD(name) __asm__(".symver " #name ", " #name "@GLIBC_2.17")
SELFHEAL_OLD(exp);
SELFHEAL_OLD(exp2);
SELFHEAL_OLD(log);
SELFHEAL_OLD(log2);
SELFHEAL_OLD(pow);
SELFHEAL_OLD(expf);
SELFHEAL_OLD(exp2f);
SELFHEAL_OLD(logf);
SELFHEAL_OLD(log2f);
SELFHEAL_OLD(powf);
#undef SELFHEAL_OLD
