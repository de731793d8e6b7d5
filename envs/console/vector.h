// Many environments that step together on the CPU.
#pragma once
#include <cstring>
#include <memory>
#include <sstream>
#include <string>

#include "host_observation.h"
#include "host_worlds.h"
#include "state.h"
#include "threads.h"

namespace console {

enum Autoreset : i32 { NEXT_STEP, SAME_STEP, DISABLED };

// A game as the rows of a vector share it; it owns what the setup points to.
struct SharedGame {
  std::vector<u8> rom, shades;
  std::vector<u8> palettes;              // of each channel 256 bytes, or empty
  Setup setup;
  std::vector<Opening> opening;
  AreaTable x, y;
  View view;
  std::unique_ptr<Starts> starts;
};

struct EngineOptions {
  i32 frame_stack = 4;
  i32 threads = 1;
  i32 autoreset = NEXT_STEP;
  bool ale_random = false;               // ALE's generators and resets
  bool shows_objects = false;            // observations are the objects' planes
  bool records = false;                  // the frames of the last step are kept
};

// Where a step or reset writes; each has a row for each environment.
struct Outputs {
  u8* observations;
  u8* finals;                            // with SAME_STEP: the last observations of episodes that ended
  float* rewards;
  u8 *terminated, *truncated, *life_lost;
  i32 *lives, *frame_number, *episode_frame_number;
  i64* executed;
};

struct BusyError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// One thread at a time may use an engine; a second one is told so, and harms nothing.
class Engine {
 public:
  enum Usage : i32 { IDLE, USED, SENT };

  Engine(std::vector<std::shared_ptr<SharedGame>> games, const std::vector<i32>& game_of_row, EngineOptions options)
      : games_(std::move(games)), options_(options) {
    for (const auto& game : games_) if (!game) throw std::invalid_argument("a game is missing");
    const SharedGame& first = *games_.at(0);
    for (const auto& game : games_)
      if (options_.shows_objects && !game->setup.draw_objects) throw std::invalid_argument("objects are not drawn");
    picture_bytes_ = size_t(first.view.rows) * first.view.columns * first.view.channels;
    for (i32 game : game_of_row)
      rows_.push_back(std::make_unique<Row>(games_.at(game).get(), options_, picture_bytes_));
    for (i32 t = 0; t < std::max(options_.threads, 1); t++) {
      held_.emplace_back(MAX_SCREEN_HEIGHT * SCREEN_WIDTH / 8);
      observers_.emplace_back();
      for (auto& game : games_)
        observers_.back().push_back(
            std::make_unique<Observer>(game->x, game->y, game->view.scale ? game->view.rows : 1));
    }
    errors_.resize(observers_.size());
    for (size_t k = 0; k < games_.size(); k++)
      for (auto& row : rows_) if (row->game == games_[k].get()) row->game_index = i32(k);
  }

  ~Engine() { forget_foreign_pool(); }
  Engine(const Engine&) = delete;

  i32 size() const { return i32(rows_.size()); }
  bool needs_finals() const { return options_.autoreset == SAME_STEP; }
  // Throws std::out_of_range when an action is none of the row's game.
  void check_actions(const i64* actions) const {
    for (i32 row = 0; row < size(); row++)
      if (!within(actions[row], 0, rows_[row]->game->setup.num_actions - 1))
        throw std::out_of_range("actions are 0 to one less than their number");
  }
  size_t observation_bytes() const { return picture_bytes_ * options_.frame_stack; }

  // Begins new episodes in the rows of `mask`. A seed of -1 leaves a row's generators as they are.
  void reset(const u8* mask, const i64* seeds, const Outputs& out) {
    const Use use(*this);
    run(true, [=](i32 row, i32 thread) { reset_row(row, thread, mask[row], seeds[row], out); });
  }
  void step(const i64* actions, const Outputs& out) {
    const Use use(*this);
    run(true, [=](i32 row, i32 thread) { step_row(row, thread, actions[row], out); });
  }
  // Starts a step in the background; `recv` waits for it. The arrays must live until then.
  void send(const i64* actions, const Outputs& out) {
    const Use use(*this, SENT);
    run(false, [=](i32 row, i32 thread) { step_row(row, thread, actions[row], out); });
  }
  void recv() {
    enter(SENT, USED);
    const bool ours = pool_ && pool_->alive();
    if (ours) pool_->wait();
    use_ = IDLE;
    if (!ours) throw BusyError("the process that sent the step has to receive it");
    tell_errors();
  }

  // Holds the engine for one thread while it lives; throws BusyError where another one has it.
  class Use {
   public:
    explicit Use(const Engine& engine, i32 afterwards = IDLE) : engine_(engine), afterwards_(afterwards) {
      engine.enter(IDLE, USED);
    }
    ~Use() { engine_.use_ = afterwards_; }
    Use(const Use&) = delete;

   private:
    const Engine& engine_;
    i32 afterwards_;
  };

  const Env& env(i32 row) const { return rows_.at(row)->env; }
  const Screens& screens(i32 row) const { return rows_.at(row)->screens; }
  const SharedGame& game(i32 row) const { return *rows_.at(row)->game; }
  const Recorder& recorder(i32 row) const { return rows_.at(row)->recorder; }
  const std::vector<u8>& stack(i32 row) const { return rows_.at(row)->stack; }

  std::string state(i32 row) const {
    const Use use(*this);
    const Row& r = *rows_.at(row);
    StateWriter writer(r.game->setup.board, r.env);
    writer.add(r.bytes.data(), r.bytes.size());
    writer.add(r.full.data(), r.full.size());
    writer.add(r.stack.data(), r.stack.size());
    if (options_.ale_random) writer.add_text(generators_of(*rows_.at(row)));
    return writer.text();
  }
  // Throws StateError and leaves the row as it was when the text is no state of such a row.
  void set_state(i32 row, const std::string& text) {
    const Use use(*this);
    Row& r = *rows_.at(row);
    StateReader reader(text, r.game->setup);
    std::vector<u8> bytes(r.bytes.size()), full(r.full.size()), stack(r.stack.size());
    reader.take(bytes.data(), bytes.size());
    reader.take(full.data(), full.size());
    reader.take(stack.data(), stack.size());
    std::mt19937 generators[3];
    if (options_.ale_random) {
      std::istringstream words(reader.take_text());
      for (std::mt19937& g : generators) words >> g;
      if (!words) throw StateError("its random generators are damaged");
    }
    reader.end();
    // All of it is good: only now does the row change.
    for (i32 k = 0; options_.ale_random && k < 3; k++) r.ale.generator(k) = generators[k];
    r.env = reader.env();
    r.bytes.swap(bytes);
    r.full.swap(full);
    r.stack.swap(stack);
    r.point_screens();
  }

 private:
  void enter(Usage from, Usage to) const {
    i32 found = from;
    if (!use_.compare_exchange_strong(found, to)) throw BusyError("another thread is using these environments");
  }

  struct Row {
    Row(SharedGame* shared, const EngineOptions& options, size_t picture_bytes)
        : game(shared), ale(shared->opening, &shared->setup.board, options.records ? &recorder : nullptr) {
      const size_t screen = size_t(shared->setup.board.height) * SCREEN_WIDTH;
      bytes.assign(screen * (shared->setup.draw_objects ? 4 : 2), 0);
      full.assign(screen * shared->view.channels, 0);
      stack.assign(picture_bytes * options.frame_stack, 0);
      point_screens();
    }
    void point_screens() {
      const size_t screen = size_t(game->setup.board.height) * SCREEN_WIDTH;
      screens = {{bytes.data(), bytes.data() + screen}, {nullptr, nullptr}, nullptr};
      if (game->setup.draw_objects)
        screens.objects[0] = bytes.data() + 2 * screen, screens.objects[1] = bytes.data() + 3 * screen;
    }
    SharedGame* game;
    i32 game_index = 0;
    Env env{};
    Recorder recorder;
    AleWorld ale;
    Screens screens;
    std::vector<u8> bytes, full, stack;
  };

  static std::string generators_of(Row& row) {
    std::ostringstream words;
    for (i32 k = 0; k < 3; k++) words << row.ale.generator(k) << ' ';
    return words.str();
  }

  LazyCounterWorld counter_world(Row& row) {
    Starts& starts = *row.game->starts;
    return {starts, {starts.all()}, &row.game->setup.board, options_.records ? &row.recorder : nullptr};
  }

  void run(bool waits, Pool::Work work) {
    const i32 wanted = waits ? options_.threads - 1 : std::max(options_.threads, 1);
    for (std::string& error : errors_) error.clear();
    auto guarded = [this, work](i32 row, i32 thread) {
      try { work(row, thread); } catch (const std::exception& error) { errors_[thread] = error.what(); }
    };
    if (waits && (wanted <= 0 || size() == 1)) {
      for (i32 row = 0; row < size(); row++) guarded(row, 0);
      tell_errors();
      return;
    }
    forget_foreign_pool();
    if (!pool_ || pool_->size() != wanted) pool_ = std::make_unique<Pool>(wanted);
    pool_->start(size(), guarded);
    if (!waits) return;
    pool_->help(wanted);
    pool_->wait();
    tell_errors();
  }
  // The pool of a forked process's parent: its threads are not here, and its locks would wait for them.
  void forget_foreign_pool() {
    if (pool_ && !pool_->alive()) (void)pool_.release();
  }
  void tell_errors() {
    for (const std::string& error : errors_) if (!error.empty()) throw ModeError(error);
  }

  void observe(Row& row, i32 thread, Picture picture, bool held, bool anew) {
    SharedGame& game = *row.game;
    const size_t older = row.stack.size() - picture_bytes_;
    if (older) std::memmove(row.stack.data(), row.stack.data() + picture_bytes_, older);
    u8* const* shown = options_.shows_objects ? row.screens.objects : row.screens.picture;
    const u8* before = held ? row.screens.held : shown[row.env.current ^ 1];
    observers_[thread][row.game_index]->observe(game.view, picture, shown[row.env.current], before,
                                                game.setup.board.height, row.full.data(), row.stack.data() + older,
                                                anew);
  }

  void begin(Row& row, i32 thread) {
    if (options_.records) row.recorder.clear();
    const Setup& setup = row.game->setup;
    if (options_.ale_random) begin_episode(row.ale, row.env, setup, row.screens);
    else {
      LazyCounterWorld world = counter_world(row);
      begin_episode(world, row.env, setup, row.screens);
    }
    std::fill(row.stack.begin(), row.stack.end(), u8(0));
    observe(row, thread, NEWEST_FRAME, false, true);
  }

  void reset_row(i32 index, i32 thread, bool wanted, i64 seed, const Outputs& out) {
    Row& row = *rows_[index];
    if (wanted) {
      if (seed >= 0 || !row.env.began) {
        row.env = Env{};
        row.env.random.state = mixed(u64(seed >= 0 ? seed : 0));
        if (options_.ale_random) {
          // ALE resets its environment when it loads the ROM, and again for the episode.
          row.ale.load(row.env, row.game->setup, row.screens, u32(seed >= 0 ? seed : 0));
          row.ale.reset(row.env, row.game->setup, row.screens);
        }
      }
      begin(row, thread);
    }
    report(row, index, StepResult{}, out);
  }

  void step_row(i32 index, i32 thread, i64 action, const Outputs& out) {
    Row& row = *rows_[index];
    StepResult result{};
    result.executed = i32(action);
    if (row.env.ended && options_.autoreset == NEXT_STEP) {
      begin(row, thread);
    } else {
      if (options_.records) row.recorder.clear();
      const Setup& setup = row.game->setup;
      const Env before = row.env;
      row.screens.held = reinterpret_cast<u8*>(held_[thread].data());
      if (options_.ale_random) result = console::step(row.ale, row.env, before, setup, row.screens, i32(action));
      else {
        LazyCounterWorld world = counter_world(row);
        result = console::step(world, row.env, before, setup, row.screens, i32(action));
      }
      observe(row, thread, result.picture, result.held, false);
      if (row.env.ended && options_.autoreset == SAME_STEP) {
        std::memcpy(out.finals + index * observation_bytes(), row.stack.data(), observation_bytes());
        begin(row, thread);
      }
    }
    report(row, index, result, out);
  }

  void report(const Row& row, i32 index, const StepResult& result, const Outputs& out) {
    std::memcpy(out.observations + index * observation_bytes(), row.stack.data(), observation_bytes());
    out.rewards[index] = result.reward;
    out.terminated[index] = result.terminated;
    out.truncated[index] = result.truncated;
    out.life_lost[index] = result.life_lost;
    out.lives[index] = row.env.rules.lives;
    out.frame_number[index] = row.env.frame_number;
    out.episode_frame_number[index] = row.env.episode_frame_number;
    out.executed[index] = result.executed;
  }

  std::vector<std::shared_ptr<SharedGame>> games_;
  EngineOptions options_;
  size_t picture_bytes_ = 0;
  std::vector<std::unique_ptr<Row>> rows_;
  std::vector<std::vector<std::unique_ptr<Observer>>> observers_;
  std::vector<std::vector<u64>> held_;   // for each thread a screen
  std::vector<std::string> errors_;
  std::unique_ptr<Pool> pool_;
  mutable std::atomic<i32> use_{IDLE};
};

}  // namespace console
