// What a GPU does for many environments, as functions of a row and a thread.
//
// There is no CUDA here, so that a test can run all of it on a CPU; kernel.cu lays the grids. One thread
// plays a machine (play_row), a block of threads makes a picture (the three parts of it in their order, with
// a barrier between them).
//
// - The machines of a warp are of one game, so that its threads have as much in common as can be: they are
//   numbered by slots, groups of `lanes` slots make a warp, and a table tells the row of each slot. Fewer
//   lanes than a warp has (32) diverge less.
// - A new episode would hold up its warp, and with it the whole step, for up to `noop_max` frames of NOOP.
//   Where actions do not stick, these frames depend on two draws only: the start and the number of NOOPs.
//   Their outcomes are made once (make_ready) and copied.
// - Nothing here can tell the host of a mistake. It is noted in `problems`, which the host reads later.
#pragma once
#include "environment.h"
#include "observation.h"

namespace console {

constexpr i32 WARP = 32;

// What may be wrong with a call, one bit each.
enum Problem : u32 { BAD_ACTION = 1, STEP_AFTER_END = 2 };

// What is the same for all rows of a game.
struct KernelGame {
  Setup setup;
  View view;
  const Start* starts;   // START_COUNT of them
  Env* ready;            // begun episodes by start and number of NOOPs, or null
  u8* ready_screens;     // of each of these, as a start has them
};

// When an episode that ended begins anew; the host's SAME_STEP is two calls of DISABLED's kind.
enum KernelReset : i32 { RESET_NEXT_STEP, RESET_WHEN_TOLD };

// All that the kernels share; every pointer is into the device's memory.
struct Batch {
  const KernelGame* games;
  const i32* row_of_slot;    // -1 where a warp is not full
  const i32* game_of_row;
  Env* envs;                 // one for each row, as all that follows
  u8* screens;               // screen_count pictures of screen_bytes and one more, `held`; null: none is drawn
  u8* full;                  // the last picture before it was resized: of each channel screen_bytes
  u8* stacks;                // frame_stack pictures of picture_bytes, newest last
  u8* tasks;                 // what is to be done for the picture, see below
  i32* ready_of_row;         // the begun episode whose screens are still to be copied, or -1
  u32* problems;             // one word
  i32 rows, slots, lanes, reset_mode;
  i32 screen_count;          // 2, or 4 with the objects' planes
  i32 screen_bytes;          // of the highest screen
  i32 picture_bytes, frame_stack, shows_objects;
  i32 ready_noops;           // begun episodes of each start
};

// What a step or a reset tells of each row; the arrays lie behind one another.
struct Results {
  i64* executed;
  float* rewards;
  i32 *lives, *frame_number, *episode_frame_number;
  u8 *terminated, *truncated, *life_lost, *ended;
};
constexpr i32 RESULT_BYTES = 28;         // of a row
CONSOLE_INLINE Results results_of(u8* bytes, i32 rows) {
  const u64 n = u64(rows);
  return {reinterpret_cast<i64*>(bytes),           reinterpret_cast<float*>(bytes + 8 * n),
          reinterpret_cast<i32*>(bytes + 12 * n),  reinterpret_cast<i32*>(bytes + 16 * n),
          reinterpret_cast<i32*>(bytes + 20 * n),  bytes + 24 * n, bytes + 25 * n, bytes + 26 * n, bytes + 27 * n};
}

// What is to be done for a row's picture: how it is made (Picture), and these bits.
constexpr u8 PICTURE_KIND = 3, BEFORE_IS_HELD = 4, BEGINS = 8, AS_BEFORE = 16;

// The row that a thread plays, or -1. `thread`, `threads`: in the block, and of a block.
CONSOLE_INLINE i32 row_of_thread(const Batch& batch, u32 block, u32 thread, u32 threads) {
  const u32 lane = thread % WARP, warp = block * (threads / WARP) + thread / WARP;
  const u64 slot = u64(warp) * u32(batch.lanes) + lane;
  return lane < u32(batch.lanes) && slot < u64(batch.slots) ? batch.row_of_slot[slot] : -1;
}

CONSOLE_INLINE Screens screens_of(const Batch& batch, i32 row) {
  Screens screens = {{nullptr, nullptr}, {nullptr, nullptr}, nullptr};
  if (!batch.screens) return screens;
  const u64 size = u64(batch.screen_bytes);
  u8* first = batch.screens + u64(row) * u64(batch.screen_count + 1) * size;
  screens.picture[0] = first;
  screens.picture[1] = first + size;
  if (batch.screen_count == 4) {
    screens.objects[0] = first + 2 * size;
    screens.objects[1] = first + 3 * size;
  }
  screens.held = first + u64(batch.screen_count) * size;
  return screens;
}

CONSOLE_INLINE void note(const Batch& batch, u32 problem) {
  // Bits are set by threads at any time, and never cleared: no two of them harm each other but by hiding
  // one problem behind another.
  *batch.problems |= problem;
}

// What the kernel of the machines is to do in a call.
enum Work : i32 {
  STEP,                  // with an action each; a row that ended begins anew if the batch says so
  RESET,                 // the rows of a mask begin anew
  RESET_ENDED,           // the rows that ended begin anew; the other results stay those of the step
  MAKE_READY             // the begun episodes of a game, one a thread
};
struct Call {
  i32 work;
  i32 game;              // MAKE_READY
  const i64* actions;    // STEP: indices into the action space
  const u8* mask;        // RESET
  const i64* seeds;      // RESET: -1 leaves a row's random numbers where they are
  u8* results;           // all but MAKE_READY
};

// Random numbers as counted, or one start and a fixed number of NOOPs in which no action sticks.
struct KernelWorld {
  const Start* starts;
  i32 start, noops;      // -1, or what is fixed
  i32 resets;
  struct Mark {};
  CONSOLE_INLINE Mark mark() const { return {}; }
  CONSOLE_INLINE void go_back(Mark) const {}
  CONSOLE_INLINE void watch(const Env&, const Screens&) const {}
  CONSOLE_INLINE bool sticks(Env& env, u64 threshold) const { return CounterWorld{starts}.sticks(env, threshold); }
  CONSOLE_INLINE i32 below(Env& env, u32 bound) const {
    return start < 0 ? CounterWorld{starts}.below(env, bound) : noops;
  }
  CONSOLE_INLINE void reset(Env& env, const Setup& setup, const Screens& screens) {
    resets++;
    copy_start(starts[start < 0 ? next_random(env.random) % START_COUNT : u32(start)], env, setup, screens);
  }
};

// Begins an episode that was made ready, if there is the one that the random numbers want.
CONSOLE_FN bool begin_ready(const Batch& batch, i32 row, const KernelGame& game, Env& env) {
  if (!game.ready) return false;
  CounterRandom random = env.random;
  const i32 start = i32(next_random(random) % START_COUNT);
  const i32 noops = i32(u64(next_random(random)) * u64(batch.ready_noops) >> 32);
  const i32 index = start * batch.ready_noops + noops;
  if (!game.ready[index].began) return false;
  const i32 frame_number = env.frame_number;
  env = game.ready[index];
  env.random = random;
  env.frame_number += frame_number;
  batch.ready_of_row[row] = index;
  return true;
}

CONSOLE_INLINE void report(const Results& out, i32 row, const StepResult& result) {
  out.executed[row] = result.executed;
  out.rewards[row] = result.reward;
  out.terminated[row] = result.terminated;
  out.truncated[row] = result.truncated;
  out.life_lost[row] = result.life_lost;
}

// Whether a row is to step or to begin an episode; neither leaves it as it is.
struct Turn { bool steps, begins; };
CONSOLE_FN Turn turn_of(const Batch& batch, const Call& call, i32 row, Env& env) {
  if (call.work == STEP) {
    const bool begins = env.ended && batch.reset_mode == RESET_NEXT_STEP;
    if (env.ended && !begins) note(batch, STEP_AFTER_END);
    return {!env.ended, begins};
  }
  if (call.work == RESET_ENDED) return {false, env.ended != 0};
  if (!call.mask[row]) return {false, false};
  const i64 seed = call.seeds[row];
  if (seed >= 0 || !env.began) {
    env = Env{};
    env.random.state = mixed(u64(seed >= 0 ? seed : 0));
  }
  return {false, true};
}

CONSOLE_INLINE i32 action_of(const Batch& batch, const Call& call, i32 row, const Setup& setup) {
  if (call.work != STEP) return 0;
  const i64 action = call.actions[row];
  if (action >= 0 && action < setup.num_actions) return i32(action);
  note(batch, BAD_ACTION);
  return action < 0 ? 0 : setup.num_actions - 1;
}

// A row's part of a call. `env` is where this thread works.
CONSOLE_FN void play_row(const Batch& batch, const Call& call, i32 row, Env& env) {
  const KernelGame& game = batch.games[batch.game_of_row[row]];
  const Screens screens = screens_of(batch, row);
  env = batch.envs[row];
  KernelWorld world = {game.starts, -1, 0, 0};
  StepResult result = {0, action_of(batch, call, row, game.setup), 0, 0, 0, 0, KEEP_PICTURE};
  u8 task = AS_BEFORE;
  batch.ready_of_row[row] = -1;
  const Turn turn = turn_of(batch, call, row, env);
  if (turn.steps) {
    result = step(world, env, batch.envs[row], game.setup, screens, result.executed);
    task = u8(result.picture | (result.held ? BEFORE_IS_HELD : 0));
  } else if (turn.begins) {
    if (!begin_ready(batch, row, game, env)) begin_episode(world, env, game.setup, screens);
    task = u8(NEWEST_FRAME | BEGINS);
  }
  batch.tasks[row] = task;
  batch.envs[row] = env;
  const Results out = results_of(call.results, batch.rows);
  if (call.work != RESET_ENDED) {
    report(out, row, result);
    out.ended[row] = env.ended;
  }
  out.lives[row] = env.rules.lives;
  out.frame_number[row] = env.frame_number;
  out.episode_frame_number[row] = env.episode_frame_number;
}

// Makes a game's begun episode `index`. One in which the game ends again is left out: it takes more draws.
CONSOLE_FN void make_ready(const Batch& batch, i32 game_index, i32 index, Env& env) {
  const KernelGame& game = batch.games[game_index];
  const i32 size = game.setup.board.height * SCREEN_WIDTH;
  u8* first = game.ready_screens + u64(index) * u64(batch.screen_count) * u64(size);
  Screens screens = {{first, first + size}, {nullptr, nullptr}, nullptr};
  if (batch.screen_count == 4) {
    screens.objects[0] = first + 2 * size;
    screens.objects[1] = first + 3 * size;
  }
  KernelWorld world = {game.starts, index / batch.ready_noops, index % batch.ready_noops, 0};
  env = Env{};
  begin_episode(world, env, game.setup, screens);
  env.began = world.resets == 1;
  game.ready[index] = env;
}

// First part of a row's picture: the screens of the episode that has just begun.
CONSOLE_FN void copy_ready_screens(const Batch& batch, i32 row, i32 thread, i32 threads) {
  const i32 index = batch.ready_of_row[row];
  if (index < 0) return;
  const KernelGame& game = batch.games[batch.game_of_row[row]];
  const i32 size = game.setup.board.height * SCREEN_WIDTH;
  const u64 count = u64(batch.screen_count);
  const u8* from = game.ready_screens + u64(index) * count * u64(size);
  u8* to = batch.screens + u64(row) * (count + 1) * u64(batch.screen_bytes);
  for (i32 s = 0; s < batch.screen_count; s++, from += size, to += batch.screen_bytes)
    for (i32 k = thread; k < size / 8; k += threads)
      reinterpret_cast<u64*>(to)[k] = reinterpret_cast<const u64*>(from)[k];
}

// Second part: the screens are pooled into the picture before it is resized, four pixels at a time.
CONSOLE_FN void pool_row(const Batch& batch, i32 row, i32 thread, i32 threads) {
  const u8 task = batch.tasks[row];
  const Picture picture = Picture(task & PICTURE_KIND);
  if ((task & AS_BEFORE) || picture == KEEP_PICTURE) return;
  const KernelGame& game = batch.games[batch.game_of_row[row]];
  const Screens screens = screens_of(batch, row);
  u8* const* shown = batch.shows_objects ? screens.objects : screens.picture;
  const u8 current = batch.envs[row].current;
  const u32* newest = reinterpret_cast<const u32*>(shown[current]);
  const u32* before = reinterpret_cast<const u32*>(task & BEFORE_IS_HELD ? screens.held : shown[current ^ 1]);
  const View& view = game.view;
  for (i32 channel = 0; channel < view.channels; channel++) {
    const u64 plane = u64(row) * u32(view.channels) + u32(channel);
    u32* kept = reinterpret_cast<u32*>(batch.full + plane * u32(batch.screen_bytes));
    for (i32 k = thread; k < game.setup.board.height * SCREEN_WIDTH / 4; k += threads) {
      const u32 a = newest[k], b = before[k], c = kept[k];
      u32 pixels = 0;
      for (i32 shift = 0; shift < 32; shift += 8)
        pixels |= u32(pooled_pixel(view, channel, picture, u8(a >> shift), u8(b >> shift), u8(c >> shift))) << shift;
      kept[k] = pixels;
    }
  }
}

// Third part: the stack goes on by the new picture, and is copied to the observations.
CONSOLE_FN void stack_row(const Batch& batch, i32 row, u8* observations, i32 thread, i32 threads) {
  const u8 task = batch.tasks[row];
  const KernelGame& game = batch.games[batch.game_of_row[row]];
  const i32 size = batch.picture_bytes, last = (batch.frame_stack - 1) * size;
  const u64 offset = u64(row) * u64(last + size);
  u8* stack = batch.stacks + offset;
  u8* out = observations + offset;
  View plane = game.view;
  plane.channels = 1;        // the kept picture has its channels one after the other
  const u8* full = batch.full + u64(row) * u32(game.view.channels) * u32(batch.screen_bytes);
  // Each thread has its own place in all pictures of the stack: none waits for another.
  for (i32 k = thread; k < size; k += threads) {
    if (task & AS_BEFORE) {
      for (i32 at = k; at <= last + k; at += size) out[at] = stack[at];
      continue;
    }
    for (i32 at = k; at < last; at += size) out[at] = stack[at] = task & BEGINS ? u8(0) : stack[at + size];
    const i32 pixel = k / game.view.channels, channel = k % game.view.channels;
    const u8* source = full + u64(channel) * u32(batch.screen_bytes);
    const i32 line = pixel / plane.columns, column = pixel % plane.columns;
    out[last + k] = stack[last + k] = plane.scale ? area_pixel(plane, source, 0, line, column) : source[pixel];
  }
}

// The layouts that the host fills in by itself.
static_assert(sizeof(Start) == sizeof(Env) + 8 && sizeof(View) == 104, "the host lays these out");
static_assert(sizeof(KernelGame) == sizeof(Setup) + sizeof(View) + 24, "the host lays this out");
static_assert(sizeof(Batch) == 10 * 8 + 10 * 4, "the host lays this out");
#if defined(CONSOLE_ENV_BYTES)
static_assert(sizeof(Env) == CONSOLE_ENV_BYTES && sizeof(Setup) == CONSOLE_SETUP_BYTES,
              "the extension was compiled from other headers, or its compiler lays structures out otherwise");
#endif

}  // namespace console
