// The Python extension: engines of many environments, and one console frame by frame.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "core.h"

namespace py = pybind11;
using namespace console;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// The memory of an array in a dict; never of a copy that a conversion made.
template <class T>
T* memory_of(const py::dict& arrays, const char* name, size_t count) {
  const py::object array = arrays[name];
  if (!py::isinstance<Array<T>>(array)) throw py::value_error(std::string(name) + " has another type or layout");
  auto typed = py::reinterpret_borrow<Array<T>>(array);
  if (size_t(typed.size()) != count) throw py::value_error(std::string(name) + " has another size");
  return typed.mutable_data();
}

std::shared_ptr<SharedGame> make_game(const std::string& name, const py::bytes& rom, const py::dict& facts) {
  auto game = std::make_shared<SharedGame>();
  const std::string bytes = rom;
  const auto number = [&](const char* key) { return facts[key].cast<i32>(); };
  const std::string shades = facts["shades"].cast<py::bytes>(), palettes = facts["palettes"].cast<py::bytes>();
  if (shades.size() != 256 || palettes.size() % 256 || palettes.size() / 256 > MAX_CHANNELS)
    throw py::value_error("a palette has 256 bytes");
  game->shades.assign(shades.begin(), shades.end());
  game->palettes.assign(palettes.begin(), palettes.end());
  Setup& setup = game->setup;
  setup = Setup{};
  install_rom(*game, bytes);
  setup.board.shades = game->shades.data();
  setup.board.game = index_of_game(name);
  set_lines(setup.board, number("first_line"), number("height"), number("last_line"));
  setup.board.cartridge = u8(number("cartridge"));
  setup.board.colour_loss = u8(number("colour_loss"));
  setup.board.hmove_blanks = u8(number("hmove_blanks"));
  const auto actions = facts["actions"].cast<std::vector<i32>>();
  if (actions.empty() || actions.size() > ACTION_COUNT) throw py::value_error("1 to 18 actions");
  for (size_t k = 0; k < actions.size(); k++) setup.actions[k] = actions[k];
  setup.num_actions = i32(actions.size());
  setup.fire = number("fire");
  setup.paddle_start = number("paddle_start");
  setup.paddle_max = number("paddle_max");
  setup.mode = number("mode");
  setup.difficulty = u8(number("difficulty"));
  setup.frame_skip = number("frame_skip");
  setup.noop_max = number("noop_max");
  setup.max_frames = number("max_frames");
  setup.sticky = u64(std::ceil(double(facts["sticky"].cast<float>()) * 4294967296.0));
  setup.controller = u8(number("controller"));
  setup.paddles_right = u8(number("paddles_right"));
  setup.fire_illegal = u8(number("fire_illegal"));
  setup.max_pool = u8(number("max_pool"));
  setup.draw_objects = u8(number("draw_objects"));
  setup.draw_all = u8(number("draw_all"));
  const std::string wrong = check_setup(setup);
  if (!wrong.empty()) throw py::value_error(wrong);
  game->opening = {};
  for (const auto& [action, frames] : facts["opening"].cast<std::vector<std::pair<i32, i32>>>())
    game->opening.push_back({action, frames});
  finish_game(*game, number("size"), i32(palettes.size() / 256));
  return game;
}

Outputs outputs_of(const Engine& engine, const py::dict& arrays) {
  const size_t n = size_t(engine.size()), bytes = n * engine.observation_bytes();
  Outputs out{};
  out.observations = memory_of<u8>(arrays, "observations", bytes);
  if (engine.needs_finals()) out.finals = memory_of<u8>(arrays, "finals", bytes);
  out.rewards = memory_of<float>(arrays, "rewards", n);
  out.terminated = memory_of<u8>(arrays, "terminated", n);
  out.truncated = memory_of<u8>(arrays, "truncated", n);
  out.life_lost = memory_of<u8>(arrays, "life_lost", n);
  out.lives = memory_of<i32>(arrays, "lives", n);
  out.frame_number = memory_of<i32>(arrays, "frame_number", n);
  out.episode_frame_number = memory_of<i32>(arrays, "episode_frame_number", n);
  out.executed = memory_of<i64>(arrays, "executed", n);
  return out;
}

const i64* actions_of(const Engine& engine, const Array<i64>& actions) {
  if (actions.size() != engine.size()) throw py::value_error("one action for each environment");
  engine.check_actions(actions.data());
  return actions.data();
}

py::array bytes_array(const void* bytes, std::vector<py::ssize_t> shape) {
  return Array<u8>(std::move(shape), static_cast<const u8*>(bytes));
}

py::dict pieces_of(const Env& env, const Screens& screens, const Board& board) {
  py::dict pieces;
  pieces["ram"] = bytes_array(env.machine.ram, {RAM_SIZE});
  pieces["cartridge_ram"] = bytes_array(env.machine.cartridge.ram, {128});
  pieces["screen"] = bytes_array(screens.picture[env.current], {board.height, SCREEN_WIDTH});
  if (screens.objects[0]) pieces["objects"] = bytes_array(screens.objects[env.current], {board.height, SCREEN_WIDTH});
  pieces["sound"] = bytes_array(env.machine.video.sound, {6});
  return pieces;
}

}  // namespace

#if !defined(CONSOLE_MODULE)
#define CONSOLE_MODULE _console
#endif

PYBIND11_MODULE(CONSOLE_MODULE, module) {
  module.doc() = "The batched console: see the headers in eightbit/envs/console.";
  module.attr("instructions") = instruction_set();
  module.def("processor_level", &processor_level, "The best x86-64 level that the processor has: 2, 3 or 4.");
  module.attr("env_bytes") = sizeof(Env);
  module.def("game_names", [] {
    std::vector<std::string> names;
    for (i32 k = 0; k < GAME_COUNT; k++) names.emplace_back(game_name(k));
    return names;
  });
  py::register_local_exception<ModeError>(module, "ModeError", PyExc_RuntimeError);
  py::register_local_exception<BusyError>(module, "BusyError", PyExc_RuntimeError);
  py::register_local_exception<StateError>(module, "StateError", PyExc_ValueError);

  py::class_<RulesOf>(module, "Rules", py::module_local())
      .def(py::init([](const std::string& name) { return RulesOf{index_of_game(name), {}}; }))
      .def("begin", [](RulesOf& self) { begin_rules(self.game, self.rules); })
      .def("apply", [](RulesOf& self, const std::string& ram, const std::string& cartridge_ram) {
        if (ram.size() != RAM_SIZE || cartridge_ram.size() != 128) throw py::value_error("128 bytes each");
        apply_rules(self.game, reinterpret_cast<const u8*>(ram.data()),
                    reinterpret_cast<const u8*>(cartridge_ram.data()), self.rules);
        return py::make_tuple(self.rules.reward, self.rules.lives, self.rules.over != 0);
      }, py::arg("ram"), py::arg("cartridge_ram"));

  py::class_<SharedGame, std::shared_ptr<SharedGame>>(module, "Game", py::module_local())
      .def(py::init(&make_game), py::arg("name"), py::arg("rom"), py::arg("facts"))
      .def("start", [](SharedGame& self, u32 index) {
        if (index >= START_COUNT) throw py::index_error("75 starts");
        {
          py::gil_scoped_release release;
          self.starts->make(index);
        }
        const Start& start = self.starts->all()[index];
        return py::make_tuple(py::bytes(reinterpret_cast<const char*>(&start.env), sizeof(Env)),
                              py::bytes(reinterpret_cast<const char*>(start.screens), self.starts->screen_bytes()));
      })
      .def("rom", [](const SharedGame& self) {
        return py::bytes(reinterpret_cast<const char*>(self.rom.data()), self.rom.size());
      })
      .def("setup_bytes", [](const SharedGame& self) {
        return py::bytes(reinterpret_cast<const char*>(&self.setup), sizeof(Setup));
      })
      .def("view_numbers", [](const SharedGame& self) {
        const View& view = self.view;
        return py::make_tuple(view.channels, view.rows, view.columns, view.scale);
      })
      .def("area_tables", [](const SharedGame& self) {
        return py::make_tuple(self.x.first, self.x.count, self.x.start, self.x.weight, self.y.first, self.y.count,
                              self.y.start, self.y.weight);
      });

  py::class_<Engine>(module, "Engine", py::module_local())
      .def(py::init([](std::vector<std::shared_ptr<SharedGame>> games, const std::vector<i32>& rows, i32 frame_stack,
                       i32 threads, i32 autoreset, bool ale_random, bool shows_objects, bool records) {
        return std::make_unique<Engine>(std::move(games), rows, EngineOptions{frame_stack, threads, autoreset,
                                                                              ale_random,
                                                                              shows_objects, records});
      }), py::arg("games"), py::arg("rows"), py::kw_only(), py::arg("frame_stack"), py::arg("threads"),
           py::arg("autoreset"), py::arg("ale_random"), py::arg("shows_objects"), py::arg("records"))
      .def("reset", [](Engine& self, const Array<u8>& mask, const Array<i64>& seeds, const py::dict& arrays) {
        if (mask.size() != self.size() || seeds.size() != self.size())
          throw py::value_error("a row for each environment");
        const Outputs out = outputs_of(self, arrays);
        py::gil_scoped_release release;
        self.reset(mask.data(), seeds.data(), out);
      })
      .def("step", [](Engine& self, const Array<i64>& actions, const py::dict& arrays) {
        const Outputs out = outputs_of(self, arrays);
        const i64* given = actions_of(self, actions);
        py::gil_scoped_release release;
        self.step(given, out);
      })
      .def("send", [](Engine& self, const Array<i64>& actions, const py::dict& arrays) {
        self.send(actions_of(self, actions), outputs_of(self, arrays));
      })
      .def("recv", [](Engine& self) {
        py::gil_scoped_release release;
        self.recv();
      })
      .def("state", [](const Engine& self, i32 row) { return py::bytes(self.state(row)); })
      .def("set_state", [](Engine& self, i32 row, const std::string& state) { self.set_state(row, state); })
      .def("stack", [](const Engine& self, i32 row) {
        const Engine::Use use(self);
        return bytes_array(self.stack(row).data(), {py::ssize_t(self.observation_bytes())});
      })
      .def("report", [](const Engine& self, i32 row) {
        const Engine::Use use(self);
        const Env& env = self.env(row);
        return py::make_tuple(env.rules.lives, env.frame_number, env.episode_frame_number, bool(env.ended));
      })
      .def("pieces", [](const Engine& self, i32 row) {
        const Engine::Use use(self);
        return pieces_of(self.env(row), self.screens(row), self.game(row).setup.board);
      })
      .def("recorded", [](const Engine& self, i32 row) {
        const Engine::Use use(self);
        const Recorder& r = self.recorder(row);
        const i32 height = self.game(row).setup.board.height;
        return py::make_tuple(bytes_array(r.screens.data(), {r.frames, height, SCREEN_WIDTH}),
                              bytes_array(r.sounds.data(), {r.frames, 6}));
      });

  py::class_<Console>(module, "Console", py::module_local())
      .def(py::init<std::shared_ptr<SharedGame>>())
      .def("load", &Console::load, py::arg("seed"))
      .def("reset", &Console::reset, py::arg("mode"), py::arg("difficulty"))
      .def("act", [](Console& self, i32 action, bool drawn) {
        if (action < 0 || action >= ACTION_COUNT) throw py::value_error("actions are 0 to 17");
        return self.act(action, drawn);
      }, py::arg("action"), py::arg("drawn") = true)
      .def("run", [](Console& self, i32 frames, bool drawn) {
        py::gil_scoped_release release;
        return self.run(frames, drawn);
      }, "Plays frames of uniformly random actions with a reset at each end; returns their number.")
      .def("state", [](const Console& self) { return py::bytes(self.state()); })
      .def("set_state", &Console::set_state)
      .def("pieces", [](const Console& self) { return pieces_of(self.env(), self.screens(), self.board()); })
      .def_property_readonly("over", [](const Console& self) { return self.env().rules.over != 0; })
      .def_property_readonly("lives", [](const Console& self) { return self.env().rules.lives; })
      .def_property_readonly("score", [](const Console& self) { return self.env().rules.score; })
      .def_property_readonly("frame_number", [](const Console& self) { return self.env().frame_number; })
      .def_property_readonly("episode_frame_number",
                             [](const Console& self) { return self.env().episode_frame_number; })
      .def_property_readonly("cycle", [](const Console& self) { return self.env().machine.frame.cycle; });
}
