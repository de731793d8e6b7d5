// One console, frame by frame, with ALE's random numbers: what ALE's own interface offers.
#pragma once
#include "vector.h"

namespace console {

class Console {
 public:
  explicit Console(std::shared_ptr<SharedGame> game)
      : game_(given(std::move(game))), setup_(game_->setup), world_(game_->opening), random_(1) {
    const size_t screen = size_t(setup_.board.height) * SCREEN_WIDTH;
    bytes_.assign(screen * 4, 0);
    screens_ = {{bytes_.data(), bytes_.data() + screen}, {nullptr, nullptr}, nullptr};
    if (setup_.draw_objects)
      screens_.objects[0] = bytes_.data() + 2 * screen, screens_.objects[1] = bytes_.data() + 3 * screen;
    load(0);
  }
  Console(const Console&) = delete;

  // Switches the console off and on and resets it.
  void load(u32 seed) {
    world_.load(env_, setup_, screens_, seed);
    world_.reset(env_, setup_, screens_);
  }
  void reset(i32 mode, i32 difficulty) {
    setup_.mode = mode;
    setup_.difficulty = u8(difficulty & 3);
    world_.reset(env_, setup_, screens_);
  }
  i32 act(i32 action, bool drawn) { return console::act(world_, env_, setup_, screens_, action, drawn).reward; }
  i32 run(i32 frames, bool drawn) {
    for (i32 k = 0; k < frames; k++) {
      if (env_.rules.over) world_.reset(env_, setup_, screens_);
      act(setup_.actions[random_() % u32(setup_.num_actions)], drawn);
    }
    return frames;
  }

  const Env& env() const { return env_; }
  const Screens& screens() const { return screens_; }
  const Board& board() const { return setup_.board; }

  std::string state() const {
    StateWriter writer(setup_.board, env_);
    writer.add(bytes_.data(), bytes_.size());
    return writer.text();
  }
  // Throws StateError, and leaves the console as it was, when the text is no state of this game. The
  // generators of random numbers go on as they are.
  void set_state(const std::string& text) {
    StateReader reader(text, setup_);
    std::vector<u8> bytes(bytes_.size());
    reader.take(bytes.data(), bytes.size());
    reader.end();
    env_ = reader.env();
    std::memcpy(bytes_.data(), bytes.data(), bytes.size());
  }

 private:
  static std::shared_ptr<SharedGame> given(std::shared_ptr<SharedGame> game) {
    if (!game) throw std::invalid_argument("a game is missing");
    return game;
  }
  std::shared_ptr<SharedGame> game_;
  Setup setup_;
  AleWorld world_;
  std::minstd_rand random_;
  Env env_{};
  std::vector<u8> bytes_;
  Screens screens_;
};

}  // namespace console
