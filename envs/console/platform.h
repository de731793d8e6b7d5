// What the console needs of its compiler: integer types, and how a function is marked for the CPU
// (any C++17 compiler) or the GPU (NVRTC). Nothing else in this folder knows which device it runs on.
#pragma once

#if defined(__CUDACC_RTC__)
#define CONSOLE_GPU 1
#define CONSOLE_FN __device__ inline
#define CONSOLE_INLINE __device__ __forceinline__
#define CONSOLE_NOINLINE __device__ __noinline__
#define CONSOLE_CONSTANT __device__ const  // in the caches: lanes that read different words of __constant__ wait
namespace console {
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i8 = signed char;
using i32 = int;
using i64 = long long;
}  // namespace console
#else
#include <cstdint>
#include <cstring>
#define CONSOLE_GPU 0
#define CONSOLE_FN inline
#if defined(_MSC_VER)
#define CONSOLE_INLINE __forceinline
#define CONSOLE_NOINLINE __declspec(noinline)
#else
#define CONSOLE_INLINE __attribute__((always_inline)) inline
#define CONSOLE_NOINLINE __attribute__((noinline))
#endif
#define CONSOLE_CONSTANT static constexpr
namespace console {
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
}  // namespace console
#endif

// Whether opcodes are looked up in a table, or each has code of its own.
#if !defined(CONSOLE_TABLE_DECODE)
#define CONSOLE_TABLE_DECODE CONSOLE_GPU
#endif

namespace console {

constexpr i32 RAM_SIZE = 128;
constexpr i32 SCREEN_WIDTH = 160;
constexpr i32 MAX_SCREEN_HEIGHT = 250;

// The 18 actions in ALE's order.
enum Action : i32 {
  NOOP, FIRE, UP, RIGHT, LEFT, DOWN, UPRIGHT, UPLEFT, DOWNRIGHT, DOWNLEFT, UPFIRE, RIGHTFIRE, LEFTFIRE,
  DOWNFIRE, UPRIGHTFIRE, UPLEFTFIRE, DOWNRIGHTFIRE, DOWNLEFTFIRE, ACTION_COUNT
};

}  // namespace console
