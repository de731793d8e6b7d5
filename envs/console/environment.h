// One environment: a console, the game's rules, and what an agent's step and a new episode are.
//
// Facts (ALE's interface and its vectorizer, checked step by step beside them):
// - The player's action is kept for another frame with the probability of sticky actions; illegal actions
//   are NOOP. After the end of a game nothing happens until it is reset.
// - A paddle's resistance changes by 23,000 a frame; the joysticks' directions are pins.
// - A reset: system reset, 60 frames, RESET for 4 frames, the game's mode, RESET for 4 frames, the game's
//   starting actions. Then an episode begins with one frame of FIRE, where that is wanted and the game has
//   it, and a random number of frames of NOOP, the FIRE counted in.
// - A step holds an action for some frames and stops at the end of the game. Its picture is the maximum of
//   the last two frames; a frame that ended the game is not looked at, so that the picture is then made of
//   what was seen before.
#pragma once
#include "machine.h"
#include "rules.h"

namespace console {

constexpr i32 RESET_FRAMES = 60, SWITCH_FRAMES = 4;
constexpr i32 DRAW_ALL_STEPS = 64;       // steps for which all frames are drawn once that was needed

// Random numbers of a seed and a counter: equal on every device.
struct CounterRandom {
  u64 state;
};
CONSOLE_FN u64 mixed(u64 value) {        // SplitMix64's output function (Steele et al. 2014)
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}
CONSOLE_FN u32 next_random(CounterRandom& r) { return u32(mixed(r.state += 0x9E3779B97F4A7C15ull) >> 32); }

// What is the same for all environments of a game in a vector.
struct Setup {
  Board board;
  i32 actions[ACTION_COUNT];             // Action of each index of the action space
  i32 num_actions;
  i32 fire;                              // index of FIRE where it is pressed at starts, else -1
  i32 paddle_start, paddle_max;
  i32 mode;
  i32 frame_skip;
  i32 noop_max;                          // most frames of NOOP at a start
  i32 max_frames;                        // of an episode
  u64 sticky;                            // an action is kept when a draw of 32 bits is below this
  u8 controller, paddles_right, fire_illegal, difficulty;
  u8 max_pool, draw_objects, draw_all;
};

// How the picture that an agent gets is made of the screens.
enum Picture : u8 {
  KEEP_PICTURE,          // no new one: the last once more
  NEWEST_FRAME,          // the last frame
  LAST_TWO_FRAMES,       // the maximum of the last two
  FRAME_BEFORE_AND_KEPT  // the maximum of the frame before the last one and the last picture
};

struct Env {
  Machine machine;
  Rules rules;
  CounterRandom random;
  i32 paddle[2];
  i32 kept_action;
  i32 frame_number, episode_frame_number;
  i32 frames;            // since the episode began, whole steps
  i32 lives;             // at the end of the last step
  i32 draw_all;          // steps for which all frames are still to be drawn
  u8 current;            // the screen of the last frame
  u8 fire_next;          // a life was lost: FIRE is pressed on the next step
  u8 ended;              // the episode is over and waits for its reset
  u8 began;              // a game is under way
};

// Screens of one environment; objects is null where nobody wants them.
struct Screens {
  u8* picture[2];
  u8* objects[2];
  u8* held;              // a copy of the frame before the last one, where the last one went on with it
};
CONSOLE_INLINE Canvas canvas_of(const Screens& screens, u8 which, bool drawn) {
  return {drawn ? screens.picture[which] : nullptr, drawn ? screens.objects[which] : nullptr};
}

struct StepResult {
  float reward;
  i32 executed;          // index of the action that was played
  u8 terminated, truncated, life_lost;
  u8 held;               // the frame before the last one is `held`, else it is the other screen
  Picture picture;
};

CONSOLE_FN void clear_screens(const Screens& screens, const Board& board) {
  for (i32 s = 0; s < 2; s++) {
    for (i32 k = 0; k < board.height * SCREEN_WIDTH; k++) screens.picture[s][k] = board.shades[0];
    if (!screens.objects[s]) continue;
    for (i32 k = 0; k < board.height * SCREEN_WIDTH; k++) screens.objects[s][k] = 0;
  }
}

// One frame with these switches and this action; the rules are not asked.
CONSOLE_FN bool emulate(Env& env, const Setup& setup, const Screens& screens, i32 action, bool reset,
                        bool select, bool drawn) {
  if (setup.controller >= PADDLES) {
    const i32 turn = has_right(action) ? -PADDLE_STEP : has_left(action) ? PADDLE_STEP : 0;
    const i32 moved = env.paddle[0] + turn;
    if (turn) env.paddle[0] = moved < PADDLE_MIN ? PADDLE_MIN : moved > setup.paddle_max ? setup.paddle_max : moved;
  }
  const Input input = {action, env.paddle[0], env.paddle[1], u8(reset), u8(select), setup.difficulty};
  set_input(env.machine.ports, input, setup.controller, setup.paddles_right);
  if (!env.machine.frame.unfinished) env.current ^= 1;
  return run_frame(env.machine, setup.board, canvas_of(screens, env.current, drawn)).complete;
}

CONSOLE_FN bool play_frame(Env& env, const Setup& setup, const Screens& screens, i32 action, bool reset,
                           bool drawn) {
  const bool complete = emulate(env, setup, screens, action, reset, false, drawn);
  apply_rules(setup.board.game, env.machine.ram, env.machine.cartridge.ram, env.rules);
  return complete;
}

CONSOLE_FN void soft_reset(Env& env, const Setup& setup, const Screens& screens) {
  for (i32 k = 0; k < SWITCH_FRAMES; k++) play_frame(env, setup, screens, NOOP, true, true);
  env.kept_action = NOOP;
}

struct FrameOutcome { i32 reward; bool complete; };

// One frame of the player's action, unless the last one sticks. `World` gives random numbers and resets.
template <class World>
CONSOLE_FN FrameOutcome act(World& world, Env& env, const Setup& setup, const Screens& screens, i32 action,
                            bool drawn) {
  if (env.rules.over) return {0, true};
  if (setup.fire_illegal && has_fire(action)) action = NOOP;
  if (!world.sticks(env, setup.sticky)) env.kept_action = action;
  const bool complete = play_frame(env, setup, screens, env.kept_action, false, drawn);
  env.frame_number++;
  env.episode_frame_number++;
  world.watch(env, screens);
  return {env.rules.reward, complete};
}

// Begins an episode; afterwards the last screen is its first picture. `World` resets the console.
template <class World>
CONSOLE_FN void begin_episode(World& world, Env& env, const Setup& setup, const Screens& screens) {
  world.reset(env, setup, screens);
  i32 noops = world.below(env, u32(setup.noop_max) + 1);
  if (setup.fire >= 0) {
    act(world, env, setup, screens, FIRE, true);
    noops--;
  }
  for (; noops > 0; noops--) {
    act(world, env, setup, screens, NOOP, true);
    if (env.rules.over) world.reset(env, setup, screens);
  }
  env.frames = 0;
  env.lives = env.rules.lives;
  env.draw_all = 0;
  env.fire_next = env.ended = 0;
  env.began = 1;
}

CONSOLE_FN void copy_screen(const u8* from, u8* to, const Board& board) {
  for (i32 k = 0; k < board.height * SCREEN_WIDTH / 8; k++)
    reinterpret_cast<u64*>(to)[k] = reinterpret_cast<const u64*>(from)[k];
}

struct Held { i32 reward; i32 played; bool exact, copied; };

// Plays the frames of a step. Only the last two are drawn, unless `draw_all`; exact tells whether these
// two cover the whole screen, so that nothing of the frames that were not drawn could be seen.
template <class World>
CONSOLE_FN Held hold(World& world, Env& env, const Setup& setup, const Screens& screens, i32 action,
                     bool draw_all) {
  Held held = {0, 0, true, false};
  for (; held.played < setup.frame_skip && !env.rules.over; held.played++) {
    const i32 left = setup.frame_skip - held.played;
    const FrameOutcome frame = act(world, env, setup, screens, action, draw_all || left <= 2);
    held.reward += frame.reward;
    // The frame that ended the game is not looked at.
    held.exact = left > 2 || env.rules.over || frame.complete;
    // Stop at once: what a later frame drew could be seen when this one is played again.
    if (!held.exact && !draw_all) return held;
    // An unfinished frame goes on in the same screen.
    if (left == 2 && env.machine.frame.unfinished && screens.held) {
      copy_screen(screens.picture[env.current], screens.held, setup.board);
      held.copied = true;
    }
  }
  return held;
}

// One step with an index into the action space. `before` is the environment as it is now: when the frames
// that were drawn leave rows open, all are drawn in a second run from there.
template <class World>
CONSOLE_FN StepResult step(World& world, Env& env, const Env& before, const Setup& setup,
                           const Screens& screens, i32 index) {
  StepResult result = {0, env.fire_next && setup.fire >= 0 ? setup.fire : index, 0, 0, 0, 0, KEEP_PICTURE};
  const i32 action = setup.actions[result.executed];
  const bool draw_all = env.draw_all > 0 || setup.frame_skip <= 2 || setup.draw_all;
  if (env.draw_all > 0) env.draw_all--;
  const auto mark = world.mark();
  Held held = hold(world, env, setup, screens, action, draw_all);
  if (!held.exact && !draw_all) {
    env = before;
    world.go_back(mark);
    held = hold(world, env, setup, screens, action, true);
    env.draw_all = DRAW_ALL_STEPS;
  }
  result.reward = float(held.reward);
  result.held = held.copied;
  const bool pools = setup.max_pool && setup.frame_skip >= 2;
  result.terminated = env.rules.over != 0;
  if (!env.rules.over) result.picture = pools ? LAST_TWO_FRAMES : NEWEST_FRAME;
  else if (pools && held.played == setup.frame_skip) result.picture = FRAME_BEFORE_AND_KEPT;
  env.frames += setup.frame_skip;
  result.truncated = env.frames >= setup.max_frames && !result.terminated;
  env.ended = result.terminated | result.truncated;
  const i32 lives = env.rules.lives;
  result.life_lost = lives < env.lives && lives > 0 && !result.terminated;
  env.lives = lives;
  env.fire_next = result.life_lost && !env.ended;
  return result;
}

// A console as it stands after a reset, ready to be copied.
struct Start {
  Env env;
  const u8* screens;     // two of them, and two of objects where these are drawn
};

// Puts a start into an environment, whose random numbers and frames go on.
CONSOLE_FN void copy_start(const Start& start, Env& env, const Setup& setup, const Screens& screens) {
  const CounterRandom random = env.random;
  const i32 frame_number = env.frame_number;
  env = start.env;
  env.random = random;
  env.frame_number += frame_number;
  const i32 size = setup.board.height * SCREEN_WIDTH;
  for (i32 s = 0; s < 2; s++) {
    copy_screen(start.screens + s * size, screens.picture[s], setup.board);
    if (screens.objects[s]) copy_screen(start.screens + (2 + s) * size, screens.objects[s], setup.board);
  }
}

// The world of counted random numbers: a console begins each episode as it was just switched on and reset,
// its timer set by a random draw, of which there are 75 outcomes.
constexpr u32 START_COUNT = 75;
struct CounterWorld {
  const Start* starts;
  struct Mark {};
  CONSOLE_INLINE Mark mark() const { return {}; }
  CONSOLE_INLINE void go_back(Mark) const {}   // the numbers' state is a part of the environment
  CONSOLE_INLINE void watch(const Env&, const Screens&) const {}
  CONSOLE_INLINE bool sticks(Env& env, u64 threshold) const {
    return threshold && next_random(env.random) < threshold;
  }
  CONSOLE_INLINE i32 below(Env& env, u32 bound) const { return i32(u64(next_random(env.random)) * bound >> 32); }
  CONSOLE_FN void reset(Env& env, const Setup& setup, const Screens& screens) const {
    copy_start(starts[next_random(env.random) % START_COUNT], env, setup, screens);
  }
};

}  // namespace console
