// On the CPU: ALE's own random numbers and full resets, and the starts that the counted world copies.
//
// Facts (ALE's behaviour, checked beside it): loading a ROM seeds a "system" generator (mt19937) with
// 4753849 and draws 128 bytes of RAM and one number from it; each system reset draws one for the timer
// and, on cartridges with RAM, 128 for that. After a system reset, 60 frames tell the television's format,
// with the limits of NTSC and no paddle moved; then another system reset. Sticky actions have their own
// generator, seeded with the environment's seed at loading, and draw twice a frame (for two players).
#pragma once
#include <algorithm>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "environment.h"
#include "modes.h"

namespace console {

constexpr u32 SYSTEM_SEED = 4753849;

inline bool has_cartridge_ram(const Board& board) {
  return board.cartridge == CART_F8SC || board.cartridge == CART_F6SC;
}

struct ModeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Starting actions of a game: how many frames of which action; RESET_SWITCH is the console's switch.
constexpr i32 RESET_SWITCH = -1;
struct Opening { i32 action, frames; };

// Keeps what each frame of a step showed, and the registers of its sound.
struct Recorder {
  std::vector<u8> screens, sounds;
  i32 frames = 0;
  void clear() { screens.clear(); sounds.clear(); frames = 0; }
  void watch(const Env& env, const Screens& shown, const Board& board) {
    const u8* screen = shown.picture[env.current];
    screens.insert(screens.end(), screen, screen + board.height * SCREEN_WIDTH);
    sounds.insert(sounds.end(), env.machine.video.sound, env.machine.video.sound + 6);
    frames++;
  }
};

class AleWorld {
 public:
  struct Mark { std::mt19937 player; };

  explicit AleWorld(std::vector<Opening> opening, const Board* board = nullptr, Recorder* recorder = nullptr)
      : opening_(std::move(opening)), board_(board), recorder_(recorder) {}

  // Switches the console off and on: loads the ROM.
  void load(Env& env, const Setup& setup, const Screens& screens, u32 seed) {
    const CounterRandom random = env.random;
    env = Env{};
    env.random = random;
    system_.seed(SYSTEM_SEED);
    player_.seed(seed);
    episodes_.seed(seed);
    power_on(env.machine);
    for (u8& byte : env.machine.ram) byte = u8(system_());
    system_();
    Setup detection = setup;
    const i32 height = setup.board.colour_loss ? std::min(setup.board.height, 210) : setup.board.height;
    set_lines(detection.board, setup.board.first_line, height, 290);
    detection.board.colour_loss = 0;
    reset_system(env, detection, screens, system_());
    for (i32 k = 0; k < RESET_FRAMES; k++) emulate(env, detection, screens, NOOP, false, false, false);
    reset_system(env, setup, screens, system_());
  }

  // ALE's reset of its environment. The mode's actions and SELECT count as frames of the episode.
  void reset(Env& env, const Setup& setup, const Screens& screens) {
    reset_with(env, setup, screens, system_());
  }
  void reset_with(Env& env, const Setup& setup, const Screens& screens, u32 timer_draw) {
    env.episode_frame_number = 0;
    env.paddle[0] = env.paddle[1] = setup.paddle_start;
    reset_system(env, setup, screens, timer_draw);
    for (i32 k = 0; k < RESET_FRAMES; k++) emulate(env, setup, screens, NOOP, false, false, true);
    soft_reset(env, setup, screens);
    begin_rules(setup.board.game, env.rules);
    ModeChooser chooser{*this, env, setup, screens};
    if (!set_mode(setup.board.game, chooser, setup.mode))
      throw ModeError(std::string(game_name(setup.board.game)) + " does not reach mode " +
                      std::to_string(setup.mode));
    soft_reset(env, setup, screens);
    for (const Opening& part : opening_)
      for (i32 k = 0; k < part.frames; k++) {
        const bool presses_reset = part.action == RESET_SWITCH;
        play_frame(env, setup, screens, presses_reset ? i32(NOOP) : part.action, presses_reset, true);
      }
  }

  bool sticks(Env&, u64 threshold) {
    const u64 draw = player_();
    player_();
    return draw < threshold;
  }
  i32 below(Env&, u32 bound) {
    u64 product = u64(u32(episodes_())) * bound;
    const u32 unfair = u32(-i32(bound)) % bound;
    while (u32(product) < unfair) product = u64(u32(episodes_())) * bound;
    return i32(product >> 32);
  }
  u32 random() { return u32(player_()); }
  Mark mark() const { return {player_}; }
  void go_back(const Mark& mark) { player_ = mark.player; }

  void watch(const Env& env, const Screens& screens) { if (recorder_) recorder_->watch(env, screens, *board_); }

  std::mt19937& generator(i32 which) { return which == 0 ? system_ : which == 1 ? player_ : episodes_; }

 private:
  // What modes.h needs to press the console's switches.
  struct ModeChooser {
    AleWorld& world;
    Env& env;
    const Setup& setup;
    const Screens& screens;
    const u8* ram() const { return env.machine.ram; }
    const u8* cartridge_ram() const { return env.machine.cartridge.ram; }
    Rules& rules() { return env.rules; }
    u32 random() { return world.random(); }
    void soft_reset() { console::soft_reset(env, setup, screens); }
    void act(i32 action) { console::act(world, env, setup, screens, action, true); }
    void select(i32 frames) {
      for (i32 k = 0; k < frames; k++) emulate(env, setup, screens, NOOP, false, true, true);
      emulate(env, setup, screens, NOOP, false, false, true);
      env.frame_number++;
      env.episode_frame_number++;
    }
  };

  void reset_system(Env& env, const Setup& setup, const Screens& screens, u32 timer_draw) {
    system_reset(env.machine, setup.board, timer_draw);
    if (has_cartridge_ram(setup.board))
      for (u8& byte : env.machine.cartridge.ram) byte = u8(system_());
    clear_screens(screens, setup.board);
  }

  std::vector<Opening> opening_;
  const Board* board_;
  Recorder* recorder_;
  std::mt19937 system_, player_, episodes_;
};

// The starts of a game, each made when it is first needed.
class Starts {
 public:
  Starts(const Setup& setup, std::vector<Opening> opening)
      : setup_(setup), opening_(std::move(opening)), made_(new std::once_flag[START_COUNT]),
        starts_(START_COUNT), bytes_(START_COUNT) {
    setup_.sticky = 0;
  }

  const Start* all() const { return starts_.data(); }
  size_t screen_bytes() const { return size_t(setup_.board.height) * SCREEN_WIDTH * (setup_.draw_objects ? 4 : 2); }

  void make(u32 index) {
    std::call_once(made_[index], [&] {
      const size_t size = size_t(setup_.board.height) * SCREEN_WIDTH;
      bytes_[index].assign(screen_bytes() / 8 + 1, 0);
      u8* base = reinterpret_cast<u8*>(bytes_[index].data());
      Screens screens = {{base, base + size}, {nullptr, nullptr}, nullptr};
      if (setup_.draw_objects) screens.objects[0] = base + 2 * size, screens.objects[1] = base + 3 * size;
      AleWorld world(opening_);
      Env env{};
      world.load(env, setup_, screens, index);
      world.reset_with(env, setup_, screens, index);
      starts_[index] = {env, base};
    });
  }

 private:
  Setup setup_;
  std::vector<Opening> opening_;
  std::unique_ptr<std::once_flag[]> made_;
  std::vector<Start> starts_;
  std::vector<std::vector<u64>> bytes_;
};

// The counted world, whose starts are made when they are drawn.
struct LazyCounterWorld {
  Starts& starts;
  CounterWorld inner;
  const Board* board;
  Recorder* recorder;
  using Mark = CounterWorld::Mark;
  Mark mark() const { return {}; }
  void go_back(Mark) const {}
  void watch(const Env& env, const Screens& screens) const { if (recorder) recorder->watch(env, screens, *board); }
  bool sticks(Env& env, u64 threshold) const { return inner.sticks(env, threshold); }
  i32 below(Env& env, u32 bound) const { return inner.below(env, bound); }
  void reset(Env& env, const Setup& setup, const Screens& screens) const {
    CounterRandom next = env.random;
    starts.make(next_random(next) % START_COUNT);
    inner.reset(env, setup, screens);
  }
};

}  // namespace console
