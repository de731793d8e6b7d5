// How a game's mode is chosen at a reset: by the SELECT switch, pressed until RAM shows the mode.
//
// Env is the console within a reset:
//   const u8* ram(), cartridge_ram()   128 bytes each
//   void select(i32 frames)            that many frames with SELECT held, then one frame without; no rules
//   void act(i32 action)               one act of the agent: frame skip, sticky actions and rules hold
//   void soft_reset()                  4 frames with RESET held
//   u32 random()                       the next draw of the generator that sticky actions use
//   Rules& rules()
//
// A row of the table reads
//
//   MODE(name, mode is reached, frames of a press)
//   MODE_AFTER(name, what comes before, mode is reached, frames of a press)
//
// and ends in a soft reset. Games without a row have one mode only. Every loop is bounded, so that a ROM
// that never gets there ends in false.
#pragma once
#include "rules.h"

namespace console {

constexpr i32 MOST_PRESSES = 2000;  // Video Cube needs 783 acts
constexpr i32 MOST_PRESSES_ET = 100;  // where ALE gives up

#define CONSOLE_MODES(MODE, MODE_AFTER) \
  MODE_AFTER(air_raid, env.select(20),       ram[0x2A] == mode,                                  10) \
  MODE(alien,                                ram[0x01] == mode,                                   1) \
  MODE(asteroids,                            ram[0x00] == mode,                                   2) \
  MODE(atlantis,                             ram[0x0D] == mode,                                   2) \
  MODE(backgammon,                           ram[0x5C] == 3,                                      1) \
  MODE(bank_heist,                           ram[0x00] == mode,                                   1) \
  MODE(basic_math,                           ram[0x45] == mode,                                   2) \
  MODE(battle_zone,                          ram[0x21] == mode,                                   2) \
  MODE_AFTER(berzerk, act_noops(env, 20),    ram[0x00] == mode,                                   2) \
  MODE(bowling,                              ram[0x02] == mode,                                   2) \
  MODE(breakout,                             ram[0x32] == mode,                                   1) \
  MODE(casino,                               ram[0x54] == mode,                                   2) \
  MODE(centipede,                            ram[0x27] == mode,                                   2) \
  MODE(chopper_command,                      ram[0x60] == mode,                                   2) \
  MODE(crazy_climber,                        ram[0x00] == mode,                                   2) \
  MODE(crossbow,                             ram[0x0D] == mode + 1,                               2) \
  MODE(defender,                             ram[0x1B] == mode,                                   2) \
  MODE(demon_attack,                         ram[0x6A] == mode,                                   1) \
  MODE(flag_capture,                         ram[0x56] == mode,                                   2) \
  MODE(freeway,                              ram[0x00] == mode,                                   1) \
  MODE(frogger,                              ram[0x5D] == 1 + 2 * mode,                           2) \
  MODE(frostbite,                            ram[0x00] == mode,                                   1) \
  MODE(galaxian,                             ram[0x33] == mode,                                   1) \
  MODE_AFTER(gopher, env.soft_reset(),       ram[0x53] == mode,                                   5) \
  MODE(gravitar,                             ram[0x00] == mode,                                  10) \
  MODE(hangman,                              ram[0x6E] == mode,                                   2) \
  MODE(haunted_house,                        ram[0x4C] == mode,                                   2) \
  MODE(hero,                                 ram[0x00] == mode,                                   1) \
  MODE(human_cannonball,                     ram[0x37] == 1 && ram[0x36] == mode + 1,             2) \
  MODE(ice_hockey,                           ram[0x00] == mode,                                   2) \
  MODE(jamesbond,                            ram[0x0C] == mode || ram[0x0C] == mode + 0x48,      20) \
  MODE(kangaroo,                             ram[0x3A] == mode || ram[0x3A] == mode + 0x80,       2) \
  MODE(king_kong,                            ram[0x6C] == 2 * mode,                               2) \
  MODE(lost_luggage,                         ram[0x14] == 1 + 3 * mode,                           2) \
  MODE(mario_bros,                           ram[0x00] == mode,                                   5) \
  MODE(mr_do,                                ram[0x00] == mode,                                   5) \
  MODE(ms_pacman,                            ram[0x19] == (mode ? mode : 1) && ram[0x21] == !mode, 10) \
  MODE(name_this_game,                       ram[0x5E] == mode,                                   2) \
  MODE(othello,                              ram[0x5E] == mode + 1,                               2) \
  MODE(pacman,                               ram[0x66] == 0 && ram[0x4C] == mode + 1,             2) \
  MODE(pong,                                 ram[0x16] == mode,                                   2) \
  MODE_AFTER(pooyan, env.select(2),          ram[0x3D] == mode,                                   2) \
  MODE(private_eye,                          ram[0x00] == mode,                                   2) \
  MODE(space_invaders,                       ram[0x5C] == mode,                                   2) \
  MODE(space_war,                            ram.bcd(0x27) == mode,                               2) \
  MODE(star_gunner,                          ram[0x74] == mode,                                  15) \
  MODE(surround,                             ram[0x79] == mode + 1,                               2) \
  MODE(tennis,                               ram[0x00] == mode,                                   2) \
  MODE(tic_tac_toe_3d,                       ram[0x08] == mode,                                   2) \
  MODE(turmoil,                              ram[0x6A] == mode,                                   2) \
  MODE(tutankham,                            ram[0x2B] == mode,                                   2) \
  MODE_AFTER(video_checkers, env.rules().memory[0] = mode > 10,                                      \
                                             ram[0x76] == (mode > 10 ? mode + 6 : mode),          1) \
  MODE(video_chess,                          ram[0x6A] == mode,                                   1) \
  MODE(video_pinball,                        ram[0x41] == mode,                                   2) \
  MODE(word_zapper,                          ram[0x5B] == mode,                                   2) \
  MODE_AFTER(yars_revenge, env.select(2),    ram[0x63] == mode,                                   1) \
  MODE(zaxxon,                               ram[0x02] == mode,                                  10)

template <class Env>
void act_noops(Env& env, i32 acts) {
  for (i32 k = 0; k < acts; k++) env.act(NOOP);
}

// Does `turn` until `reached`, at most `most` times; returns whether it was reached.
template <class Reached, class Turn>
bool turn_until(Reached reached, Turn turn, i32 most = MOST_PRESSES) {
  for (i32 k = 0; k < most; k++) {
    if (reached()) return true;
    turn();
  }
  return reached();
}

template <class Env, class Reached>
bool press_until(Env& env, Reached reached, i32 frames, i32 most = MOST_PRESSES) {
  if (!turn_until(reached, [&] { env.select(frames); }, most)) return false;
  env.soft_reset();
  return true;
}

// Adventure holds SELECT for 2 to 257 frames at random, and acts in between.
template <class Env>
bool set_mode_adventure(Env& env, i32 mode) {
  const auto reached = [&] { return (env.ram()[0x5D] >> 1 & 3) == mode; };
  const auto turn = [&] {
    env.select(i32(2 + env.random() % 256));
    env.act(NOOP);
  };
  if (!turn_until(reached, turn, 200)) return false;
  env.soft_reset();
  return true;
}

// Double Dunk has a menu of rules, a bit of the mode each; the game begins where the menu is left.
template <class Env>
bool set_mode_double_dunk(Env& env, i32 mode) {
  const auto act = [&](i32 action) {
    env.act(action);
    env.act(NOOP);
  };
  const auto go_down = [&] {
    const i32 line = env.ram()[0x30];
    return turn_until([&] { return env.ram()[0x30] != line; }, [&] { act(DOWN); }, 200);
  };
  const auto choose = [&](i32 rule, i32 wanted) {
    const auto chosen = [&] { return ((env.ram()[0x00] & rule) != 0) == (wanted != 0); };
    return turn_until(chosen, [&] { act(wanted ? RIGHT : LEFT); }, 200);
  };
  env.select(1);
  const bool done = go_down() && go_down() && choose(0x08, mode & 1)  // three-point throws
                    && go_down() && choose(0x10, mode & 2)            // 10 seconds
                    && go_down() && choose(0x04, mode & 4)            // 3 seconds
                    && go_down() && choose(0x20, mode & 8);           // fouls
  if (!done) return false;
  env.soft_reset();
  act(UPFIRE);
  return true;
}

// Klax keeps its mode in the cartridge's RAM.
template <class Env>
bool set_mode_klax(Env& env, i32 mode) {
  return press_until(env, [&] { return env.cartridge_ram()[0x6A] == mode; }, 2);
}

// Video Cube's mode is 100 x cube + variation: the variation is selected, the cube is walked to.
template <class Env>
bool set_mode_video_cube(Env& env, i32 mode) {
  const i32 variation = mode % 100, cube = mode >= 100 ? mode / 100 : 1;
  const i32 shown = variation == 2 ? 8 : 2 * variation;
  if (!press_until(env, [&] { return (env.ram()[0x7B] & 0x1F) == shown; }, 2)) return false;
  return turn_until([&] { return Ram{env.ram()}.bcd(0x1F) == cube; }, [&] { env.act(RIGHT); });
}

// Brings a console that was reset into `mode`, one of those in games.json; false: it was never reached.
template <class Env>
bool set_mode(i32 game, Env& env, i32 mode) {
  switch (game) {
#define CONSOLE_MODE_AFTER(name, before, reached, frames) \
    case GAME_##name: \
      before; \
      return press_until(env, [&] { const Ram ram{env.ram()}; return reached; }, frames);
#define CONSOLE_MODE(name, reached, frames) CONSOLE_MODE_AFTER(name, (void)0, reached, frames)
    CONSOLE_MODES(CONSOLE_MODE, CONSOLE_MODE_AFTER)
#undef CONSOLE_MODE
#undef CONSOLE_MODE_AFTER
    case GAME_adventure: return set_mode_adventure(env, mode);
    case GAME_double_dunk: return set_mode_double_dunk(env, mode);
    case GAME_et:
      return press_until(env, [&] { return env.ram()[0x6A] == mode + 1; }, 25, MOST_PRESSES_ET);
    case GAME_klax: return set_mode_klax(env, mode);
    case GAME_video_cube: return set_mode_video_cube(env, mode);
    default: return true;
  }
}

}  // namespace console
