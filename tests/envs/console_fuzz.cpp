// Plays random programs on the console for a while. Nothing that a ROM, a state or a player does may
// crash it, hang it, or reach memory that is not its own: sanitizers watch over that. Checked besides:
// neither drawing nor threads change anything, a state has one future, and after a state that is refused
// the console goes on unharmed.
//
//   console_fuzz SECONDS [SEED [PROGRAM]]
//
// A failure tells the command that repeats it, with the number of the program; only that is then run.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "core.h"
#include "fuzz_programs.h"
#include "single.h"

// The sanitizers ask for these: what they find ends the program by a signal, which is told of below.
extern "C" const char* __asan_default_options() { return "abort_on_error=1"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace {

using namespace console;

constexpr unsigned HANGING_SECONDS = 120;  // nothing below takes that long

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void check(bool good, const char* what) {
  if (!good) throw Failure(what);
}

// ---- Games ----

// Stands in for a console, to find out what choosing a mode costs where it is never reached.
struct CountingEnv {
  u8 bytes[128] = {};
  Rules known{};
  i32 frames = 0;
  const u8* ram() const { return bytes; }
  const u8* cartridge_ram() const { return bytes; }
  void select(i32 count) { frames += count + 1; }
  void act(i32) { frames++; }
  void soft_reset() { frames += SWITCH_FRAMES; }
  u32 random() { return 0; }
  Rules& rules() { return known; }
};

i32 cost_of_mode(i32 game, i32 mode) {
  CountingEnv env;
  set_mode(game, env, mode);
  return env.frames;
}

struct Shape {
  i32 height, size, palettes;
  bool objects;
};

Shape random_shape(Dice& dice) {
  const bool objects = dice.one_in(4), whole = objects || dice.one_in(3);
  const i32 height = dice.one_in(3) ? dice.between(1, MAX_SCREEN_HEIGHT) : dice.one_in(2) ? 210 : 250;
  return {height, whole ? 0 : dice.one_in(2) ? 84 : dice.between(8, 160), !objects && dice.one_in(3) ? 3 : 0,
          objects};
}

std::shared_ptr<SharedGame> random_game(Dice& dice, const Shape& shape, bool draws_all) {
  auto game = std::make_shared<SharedGame>();
  Setup& setup = game->setup;
  setup = Setup{};
  Board& board = setup.board;
  board.cartridge = u8(dice.below(CART_DPC + 1));
  const std::vector<u8> rom = random_rom(dice, board.cartridge);
  install_rom(*game, std::string(rom.begin(), rom.end()));
  game->shades.resize(256);
  game->palettes.resize(size_t(shape.palettes) * 256);
  dice.fill(game->shades.data(), game->shades.size());
  dice.fill(game->palettes.data(), game->palettes.size());
  board.shades = game->shades.data();
  do {
    board.game = i32(dice.below(GAME_COUNT));
    setup.mode = dice.between(0, 3);
  } while (cost_of_mode(board.game, setup.mode) > (dice.one_in(100) ? 4000 : 0));
  const i32 first_line = dice.one_in(3) ? dice.between(0, 60) : 34;
  const i32 last_line = dice.one_in(4) ? dice.between(200, 400) : dice.one_in(2) ? 290 : 342;
  set_lines(board, first_line, shape.height, last_line);
  board.colour_loss = u8(shape.height >= 210 && dice.one_in(2));  // a television for PAL shows no fewer
  board.hmove_blanks = u8(dice.below(2));
  setup.num_actions = dice.between(1, ACTION_COUNT);
  for (i32 k = 0; k < setup.num_actions; k++) setup.actions[k] = dice.between(0, ACTION_COUNT - 1);
  setup.fire = dice.between(-1, setup.num_actions - 1);
  setup.paddle_start = 408823;
  setup.paddle_max = 790196;
  setup.frame_skip = dice.between(1, 5);
  setup.noop_max = dice.between(0, 2);
  setup.max_frames = dice.between(1, 40);
  setup.sticky = dice.one_in(2) ? 0 : u64(1) << 30;
  setup.controller = u8(dice.below(4));
  setup.paddles_right = u8(dice.below(2));
  setup.fire_illegal = u8(dice.below(2));
  setup.difficulty = u8(dice.below(4));
  setup.max_pool = !shape.objects && dice.one_in(2);
  setup.draw_objects = shape.objects;
  setup.draw_all = draws_all;
  if (dice.one_in(2)) game->opening = {{RESET_SWITCH, 2}, {FIRE, 1}};
  check(check_setup(setup).empty(), "a setup that is as it should be was refused");
  finish_game(*game, shape.size, shape.palettes);
  return game;
}

// ---- States ----

// Spoils a state: mostly a few bytes of the environment, so that many are taken for good ones.
std::string spoiled(Dice& dice, std::string text) {
  const u32 kind = dice.below(10);
  if (kind == 0) return text.substr(0, dice.below(u32(text.size())));
  if (kind == 1) return text + std::string(1 + dice.below(100), char(dice.byte()));
  if (kind == 2) {
    dice.fill(reinterpret_cast<u8*>(text.data()), text.size());
    return text;
  }
  for (u32 k = 1 + dice.below(6); k > 0; k--) {
    const u32 at = u32(sizeof(StateHeader)) + dice.below(sizeof(Env));
    if (dice.one_in(3)) text[at] = char(dice.byte());
    else text[at] = char(text[at] ^ 1 << dice.below(8));
  }
  if (dice.one_in(10)) text[dice.below(u32(text.size()))] ^= 1;
  return text;
}

// ---- One console ----

bool same_memory(const Console& one, const Console& other) {
  const Env &a = one.env(), &b = other.env();
  return !std::memcmp(a.machine.ram, b.machine.ram, RAM_SIZE) && a.machine.cpu.pc == b.machine.cpu.pc &&
         a.machine.frame.cycle == b.machine.frame.cycle && a.rules.reward == b.rules.reward &&
         a.rules.lives == b.rules.lives && a.rules.over == b.rules.over;
}

class OneConsole {
 public:
  OneConsole(Dice& dice, const std::shared_ptr<SharedGame>& game)
      : dice_(dice), setup_(game->setup), drawn_(game), blind_(game), spoilt_(game) {}

  // Returns the frames played.
  i32 play(i32 turns) {
    const u32 seed = dice_.below(1000);
    drawn_.load(seed);
    blind_.load(seed);
    for (i32 turn = 0; turn < turns; turn++) {
      act(dice_.between(0, ACTION_COUNT - 1));
      if (drawn_.env().rules.over || dice_.one_in(60)) reset();
      if (dice_.one_in(12)) spoil();
      if (setup_.sticky == 0 && dice_.one_in(12)) repeat();
    }
    spoilt_.run(5, true);
    return frames_;
  }

 private:
  void act(i32 action) {
    drawn_.act(action, !dice_.one_in(4));
    blind_.act(action, false);
    frames_ += 2;
    check(same_memory(drawn_, blind_), "drawing changed what is not drawn");
  }
  void reset() {
    const i32 difficulty = dice_.between(0, 3);
    drawn_.reset(setup_.mode, difficulty);
    blind_.reset(setup_.mode, difficulty);
    frames_ += 2 * (RESET_FRAMES + 2 * SWITCH_FRAMES);
  }
  // Another console goes on from a spoiled state of this one; it may refuse, and be as it was.
  void spoil() {
    const std::string before = spoilt_.state();
    try {
      spoilt_.set_state(spoiled(dice_, drawn_.state()));
    } catch (const StateError&) {
      check(spoilt_.state() == before, "a state was refused, but changed the console");
    }
    for (i32 k = 0; k < 4; k++, frames_++) spoilt_.act(dice_.between(0, ACTION_COUNT - 1), dice_.one_in(2));
    if (spoilt_.env().rules.over || dice_.one_in(4)) spoilt_.reset(setup_.mode, 0);
  }
  // A state taken now has the same future twice, whatever came between.
  void repeat() {
    const std::string now = drawn_.state();
    const u32 actions = next_random(dice_.random);
    std::string futures[2];
    for (std::string& future : futures) {
      drawn_.set_state(now);
      for (i32 k = 0; k < 3; k++, frames_++) drawn_.act(i32((actions >> 8 * k & 255) % ACTION_COUNT), true);
      future = drawn_.state();
    }
    check(futures[0] == futures[1], "a state had two futures");
    drawn_.set_state(now);
    check(drawn_.state() == now, "a state was not taken as it was given");
  }

  Dice& dice_;
  const Setup setup_;
  Console drawn_, blind_, spoilt_;
  i32 frames_ = 0;
};

// ---- Vectors ----

// Arrays of exactly the sizes that an engine writes.
struct Arrays {
  explicit Arrays(const Engine& engine)
      : observations(engine.size() * engine.observation_bytes()),
        finals(engine.needs_finals() ? observations.size() : 0), rewards(engine.size()), flags(3),
        numbers(3), executed(engine.size()) {
    for (auto& flag : flags) flag.resize(engine.size());
    for (auto& number : numbers) number.resize(engine.size());
  }
  Outputs outputs() {
    return {observations.data(), finals.data(), rewards.data(), flags[0].data(), flags[1].data(), flags[2].data(),
            numbers[0].data(), numbers[1].data(), numbers[2].data(), executed.data()};
  }
  bool operator==(const Arrays& other) const {
    return observations == other.observations && finals == other.finals && rewards == other.rewards &&
           flags == other.flags && numbers == other.numbers && executed == other.executed;
  }
  std::vector<u8> observations, finals;
  std::vector<float> rewards;
  std::vector<std::vector<u8>> flags;
  std::vector<std::vector<i32>> numbers;
  std::vector<i64> executed;
};

// Two engines with the same games. One draws only what can be seen; the other draws all, in threads.
class TwoEngines {
 public:
  explicit TwoEngines(Dice& dice) : dice_(dice) {
    const Shape shape = random_shape(dice);
    EngineOptions options;
    options.frame_stack = dice.between(1, 4);
    options.autoreset = dice.between(NEXT_STEP, DISABLED);
    options.ale_random = dice.one_in(2);
    options.shows_objects = shape.objects;
    options.records = dice.one_in(4);
    const Dice same = dice;
    for (bool draws_all : {false, true}) {
      dice_ = same;
      std::vector<std::shared_ptr<SharedGame>> games;
      for (u32 k = 1 + dice.below(2); k > 0; k--) games.push_back(random_game(dice, shape, draws_all));
      std::vector<i32> rows(1 + dice.below(4));
      for (i32& row : rows) row = i32(dice.below(u32(games.size())));
      options.threads = draws_all ? dice.between(2, 3) : 1;
      engines_.push_back(std::make_unique<Engine>(games, rows, options));
    }
  }

  i32 play(i32 steps) {
    std::vector<u8> mask(size(), 1);
    reset(mask, 0);
    for (i32 step = 0; step < steps; step++) {
      advance();
      if (dice_.one_in(6)) {
        for (u8& wanted : mask) wanted = u8(dice_.below(2));
        reset(mask, dice_.one_in(2) ? -1 : 5);
      }
      if (dice_.one_in(3)) exchange();
    }
    return frames_;
  }

 private:
  i32 size() const { return engines_[0]->size(); }

  // Does the same with both; a game that never reaches its mode ends in an error in both.
  template <class Work>
  void both(Work work) {
    Arrays first(*engines_[0]), second(*engines_[1]);
    bool failed[2] = {false, false};
    for (i32 k = 0; k < 2; k++) {
      try {
        work(*engines_[k], k ? second : first);
      } catch (const ModeError&) {
        failed[k] = true;
      }
    }
    const bool same = failed[0] == failed[1] && (failed[0] || first == second);
    check(same || spoilt_, "threads, or drawing all, changed what is seen");
  }
  void reset(const std::vector<u8>& mask, i64 seed) {
    std::vector<i64> seeds(size(), seed);
    if (seed >= 0) for (i64& one : seeds) one += i64(dice_.below(100));
    both([&](Engine& engine, Arrays& arrays) { engine.reset(mask.data(), seeds.data(), arrays.outputs()); });
  }
  void advance() {
    std::vector<i64> actions(size());
    for (i32 row = 0; row < size(); row++) {
      const Setup& setup = engines_[0]->game(row).setup;
      actions[row] = dice_.below(u32(setup.num_actions));
      frames_ += 2 * setup.frame_skip;
    }
    engines_[0]->check_actions(actions.data());
    const bool waits = dice_.one_in(2);
    both([&](Engine& engine, Arrays& arrays) {
      if (waits) engine.step(actions.data(), arrays.outputs());
      else {
        engine.send(actions.data(), arrays.outputs());
        engine.recv();
      }
    });
  }
  // A row's state, spoiled or not, goes into a row of each engine. A spoiled one need not look alike.
  void exchange() {
    const i32 from = i32(dice_.below(u32(size()))), to = i32(dice_.below(u32(size())));
    const bool spoils = dice_.one_in(2);
    const std::string good = engines_[0]->state(from), text = spoils ? spoiled(dice_, good) : good;
    for (auto& engine : engines_) {
      const std::string before = engine->state(to);
      try {
        engine->set_state(to, text);
        check(engine->state(to) == text, "a state was not taken as it was given");
        spoilt_ = spoilt_ || spoils;
      } catch (const StateError&) {
        check(engine->state(to) == before, "a state was refused, but changed the row");
      }
    }
  }

  Dice& dice_;
  std::vector<std::unique_ptr<Engine>> engines_;
  bool spoilt_ = false;  // some row went on from a spoiled state
  i32 frames_ = 0;
};

// ---- The whole ----

char repeats[200];  // for a signal's handler, which must not format

void tell_how_to_repeat(int) {
  std::fputs(repeats, stderr);
  std::fflush(stderr);
}
void give_up(int) {
  std::fputs("FAILED: it hangs.\n", stderr);
  tell_how_to_repeat(0);
  std::_Exit(3);
}

i32 play_program(u32 seed, u32 program) {
  Dice dice{{mixed(u64(seed) << 32 | program)}};
  u8 ram[RAM_SIZE], cartridge_ram[128];
  dice.fill(ram, sizeof ram);
  dice.fill(cartridge_ram, sizeof cartridge_ram);
  for (i32 game = 0; game < GAME_COUNT; game++) {
    Rules rules{};
    begin_rules(game, rules);
    apply_rules(game, ram, cartridge_ram, rules);
  }
  if (dice.one_in(4)) return TwoEngines(dice).play(dice.between(2, 12));
  return OneConsole(dice, random_game(dice, random_shape(dice), true)).play(dice.between(10, 80));
}

bool play_and_tell(u32 seed, u32 program, i64& frames) {
  std::snprintf(repeats, sizeof repeats, "Repeat it with: console_fuzz 0 %u %u\n", seed, program);
  alarm(HANGING_SECONDS);
  try {
    frames += play_program(seed, program);
    return true;
  } catch (const ModeError&) {  // a ROM that never gets there is to be refused
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "FAILED: %s.\n", error.what());
    tell_how_to_repeat(0);
    return false;
  }
}

}  // namespace

int main(int count, char** words) {
  if (count < 2 || count > 4) {
    std::fputs("usage: console_fuzz SECONDS [SEED [PROGRAM]]\n", stderr);
    return 2;
  }
  const std::time_t start = std::time(nullptr);
  const long seconds = std::atol(words[1]);
  const u32 seed = count > 2 ? u32(std::strtoul(words[2], nullptr, 10)) : u32(start);
  std::signal(SIGABRT, tell_how_to_repeat);
  std::signal(SIGALRM, give_up);
  i64 frames = 0;
  if (count == 4) return play_and_tell(seed, u32(std::strtoul(words[3], nullptr, 10)), frames) ? 0 : 1;
  u32 program = 0;
  for (long shown = 0, passed = 0; passed < seconds; passed = long(std::time(nullptr) - start)) {
    if (passed >= shown + 60) {
      shown = passed;
      std::printf("%ld of %ld seconds: %u programs, %lld frames\n", passed, seconds, program, (long long)frames);
      std::fflush(stdout);
    }
    if (!play_and_tell(seed, program++, frames)) return 1;
  }
  std::printf("%u programs and %lld frames of seed %u: nothing found\n", program, (long long)frames, seed);
  return 0;
}
