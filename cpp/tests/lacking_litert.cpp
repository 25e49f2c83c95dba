// A library that has only the first of LiteRT's functions, as another release might.

extern "C" int LiteRtCreateEnvironment(int, const void*, void**) { return 1; }
