// All of the console as the CPU's host code sees it.
#pragma once
#include "single.h"
#include "vector.h"

namespace console {

inline i32 index_of_game(const std::string& name) {
  for (i32 k = 0; k < GAME_COUNT; k++) if (name == game_name(k)) return k;
  throw std::invalid_argument("unknown game " + name);
}

struct RulesOf { i32 game; Rules rules; };

// What the compiler was allowed to use for the pictures.
inline const char* instruction_set() {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return "avx512";
#elif defined(__AVX2__)
  return "avx2";
#elif defined(__SSE4_1__)
  return "sse4";
#else
  return "baseline";
#endif
}

inline int processor_level() {
#if defined(__x86_64__) && defined(__GNUC__)
  const bool third = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
  const bool fourth = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd");
  return third && fourth ? 4 : third ? 3 : 2;
#else
  return 2;
#endif
}

// Returns what is wrong with a setup, or nothing. The machine relies on what is checked here.
inline std::string check_setup(const Setup& setup) {
  const Board& board = setup.board;
  static const u32 sizes[9] = {4096, 4096, 8192, 16384, 8192, 16384, 8192, 8192, 10240};
  if (board.cartridge > CART_DPC) return "unknown kind of cartridge";
  const u32 size = sizes[board.cartridge];
  if (board.cartridge == CART_DPC ? board.rom_size < size : board.rom_size != size)
    return "a ROM of " + std::to_string(board.rom_size) + " bytes, where the cartridge has " + std::to_string(size);
  if (!within(board.height, 1, MAX_SCREEN_HEIGHT) || !within(board.first_line, 0, 60)) return "impossible screen";
  if (!within(board.last_line, 200, 400)) return "impossible last line";
  Board same = board;
  set_lines(same, board.first_line, board.height, board.last_line);
  if (same.first_clock != board.first_clock || same.end_clock != board.end_clock || same.last_clock != board.last_clock)
    return "lines and clocks that do not fit";
  if (setup.frame_skip < 1 || setup.noop_max < 0 || setup.max_frames < 1) return "impossible step";
  if (setup.fire >= setup.num_actions) return "impossible index of FIRE";
  for (i32 k = 0; k < setup.num_actions; k++)
    if (!within(setup.actions[k], 0, ACTION_COUNT - 1)) return "actions are 0 to 17";
  return "";
}

// The ROM as the machine reads it.
inline void install_rom(SharedGame& game, const std::string& bytes) {
  game.rom.assign(bytes.begin(), bytes.end());
  if (bytes.size() == 2048) game.rom.insert(game.rom.end(), bytes.begin(), bytes.end());
  game.setup.board.rom_size = u32(game.rom.size());
  game.rom.push_back(0);
  game.setup.board.rom = game.rom.data();
}

// `size`: side of the picture, 0 for the whole screen. `palettes`: how many channels have one.
inline void finish_game(SharedGame& game, i32 size, i32 palettes) {
  const Board& board = game.setup.board;
  View& view = game.view;
  view = View{};
  view.channels = palettes == 3 ? 3 : 1;
  for (i32 c = 0; c < palettes; c++) view.palette[c] = game.palettes.data() + 256 * c;
  view.rows = size > 0 ? size : board.height;
  view.columns = size > 0 ? size : SCREEN_WIDTH;
  const i32 side = size > 0 ? size : 1;
  const bool whole = SCREEN_WIDTH % side == 0 && board.height % side == 0;
  game.x = area_table(SCREEN_WIDTH, side, whole);
  game.y = area_table(board.height, side, whole);
  const i32 area = SCREEN_WIDTH / side * (board.height / side);
  view.scale = size > 0 ? whole ? 1.0f / float(area) : 1.0f : 0.0f;
  view.x = game.x.axis();
  view.y = game.y.axis();
  game.starts = std::make_unique<Starts>(game.setup, game.opening);
}

}  // namespace console
