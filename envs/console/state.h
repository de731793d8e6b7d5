// A state of an environment as bytes, to go on from later: for search, for resuming, for tests.
//
// The bytes may come from anywhere. Whatever they hold, the console that goes on from them reads and
// writes its own memory only: a state is taken when all its fields lie in their ranges, or refused whole.
#pragma once
#include <cstring>
#include <stdexcept>
#include <string>

#include "environment.h"

namespace console {

struct StateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr u32 STATE_VERSION = 1;

struct StateHeader {
  u32 version, env_bytes;
  i32 game;
  u32 rom_check;         // of the ROM, and of what colours are drawn as
};

inline u32 rom_check(const Board& board) {  // FNV-1a
  u32 hash = 2166136261u;
  for (u32 k = 0; k < board.rom_size; k++) hash = (hash ^ board.rom[k]) * 16777619u;
  for (u32 k = 0; k < 256; k++) hash = (hash ^ board.shades[k]) * 16777619u;
  return hash;
}

inline bool within(i64 value, i64 low, i64 high) { return low <= value && value <= high; }

inline bool is_plausible(const Env& env, const Setup& setup) {
  const Board& board = setup.board;
  const Machine& m = env.machine;
  const Video& v = m.video;
  const i64 clocks = i64(1) << 29, cycles = i64(1) << 28;
  bool good = within(m.frame.cycle, -cycles, cycles) && within(m.frame.origin, -75, 0) &&
              m.frame.cycle >= m.frame.origin && within(m.frame.ended, 0, 1) && within(m.frame.unfinished, 0, 1);
  good = good && m.cpu.carry <= 1 && within(m.ports.timer, 0, 255) &&
         (m.ports.timer_shift == 0 || m.ports.timer_shift == 3 || m.ports.timer_shift == 6 ||
          m.ports.timer_shift == 10);
  good = good && (v.row0_line == 0 || v.row0_line == board.first_line) && v.line_start % LINE_CLOCKS == 0 &&
         v.line_start >= v.row0_line * LINE_CLOCKS && within(v.drawn - v.line_start, 0, LINE_CLOCKS) &&
         within(v.line_start, 0, (board.first_line + board.height) * LINE_CLOCKS) && within(v.seen, -clocks, clocks) &&
         within(v.hmove_clock, -2 * clocks, clocks);
  for (i32 position : v.position) good = good && within(position, 0, SCREEN_WIDTH - 1);
  for (u8 motion : v.motion) good = good && motion <= 15;
  good = good && v.playfield < 1u << 20 && v.enabled < 64 && v.changed < 64 && v.stale < 64 && v.reflected <= 1 &&
         v.suppressed[0] <= 1 && v.suppressed[1] <= 1 && v.star_missile <= STAR_HIDDEN;
  if (board.cartridge != CART_2K && board.cartridge != CART_4K)
    for (u32 window : m.cartridge.window)
      good = good && window % 0x400 == 0 && window + 0x400 <= board.rom_size;
  good = good && within(env.kept_action, 0, ACTION_COUNT - 1) && env.current <= 1 && within(env.frames, 0, 1 << 30) &&
         within(env.paddle[0], 0, 1 << 20) && within(env.paddle[1], 0, 1 << 20) &&
         within(env.draw_all, 0, DRAW_ALL_STEPS) &&
         within(env.frame_number, 0, 1 << 30) && within(env.episode_frame_number, 0, 1 << 30);
  const i64 most = i64(1) << 28;
  good = good && within(env.rules.score, -most, most) && within(env.rules.lives, -most, most);
  for (i32 number : env.rules.memory) good = good && within(number, -most, most);
  const double clock = m.cartridge.dpc.music_clock;
  return good && clock > -1e6 && clock < 1e6;
}

class StateWriter {
 public:
  StateWriter(const Board& board, const Env& env) {
    const StateHeader header = {STATE_VERSION, u32(sizeof(Env)), board.game, rom_check(board)};
    add(&header, sizeof header);
    add(&env, sizeof env);
  }
  void add(const void* bytes, size_t count) { text_.append(static_cast<const char*>(bytes), count); }
  void add_text(const std::string& text) {
    const u32 count = u32(text.size());
    add(&count, sizeof count);
    text_ += text;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

class StateReader {
 public:
  StateReader(const std::string& text, const Setup& setup) : text_(text) {
    StateHeader header;
    take(&header, sizeof header);
    if (header.version != STATE_VERSION || header.env_bytes != sizeof(Env))
      throw StateError("it was made by another version of the console");
    if (header.game != setup.board.game || header.rom_check != rom_check(setup.board))
      throw StateError("it is of another game or ROM");
    take(&env_, sizeof env_);
    if (!is_plausible(env_, setup)) throw StateError("it is damaged");
  }
  void take(void* bytes, size_t count) {
    if (text_.size() - at_ < count) throw StateError("it is cut short, or of an environment with other options");
    std::memcpy(bytes, text_.data() + at_, count);
    at_ += count;
  }
  std::string take_text() {
    u32 count;
    take(&count, sizeof count);
    if (text_.size() - at_ < count) throw StateError("it is cut short, or of an environment with other options");
    at_ += count;
    return text_.substr(at_ - count, count);
  }
  void end() const {
    if (at_ != text_.size()) throw StateError("it is too long, or of an environment with other options");
  }
  const Env& env() const { return env_; }

 private:
  const std::string& text_;
  size_t at_ = 0;
  Env env_;
};

}  // namespace console
