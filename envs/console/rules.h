// The 104 games: what the console's RAM says about score, lives and end, and what a frame pays.
//
// ALE's rules in our own words: ALE computes them after every emulated frame, and every entry was checked
// by playing beside it. A row of the table reads
//
//   GAME(name, score, lives at the start, lives, over)
//   GAME_PAYS(name, score, lives at the start, lives, over, reward)
//   ODD_GAME(name, lives at the start, lives)
//
// where `ram` is the console's RAM (game_ram.h tells its words), `cartridge` that of the cartridge, `score`
// the score just read and `gain` its change since the last frame. GAME pays the gain. An ODD_GAME has a
// function in odd_games.h. Once a game is over it has no lives, whatever its row says (but in adventure).
#pragma once
#include "odd_games.h"

namespace console {

#define CONSOLE_GAMES(GAME, GAME_PAYS, ODD_GAME)                                                                      \
  ODD_GAME(adventure,                                   1, 1)                                                         \
  GAME(air_raid,            ram.bcd(0x28, 0x29, 0x2A),  1, 1,                  ram[0x27] == 0xFF)                     \
  GAME(alien,               alien_score(ram),           3, ram.low(0x40),      ram.low(0x40) == 0)                    \
  GAME(amidar,              ram.bcd(0x5B, 0x5A, 0x59),  3, ram.low(0x56),      ram[0x56] == 0x80)                     \
  GAME(assault,             ram.bcd(0x00, 0x01, 0x02),  4, ram[0x65],          ram[0x65] == 0)                        \
  GAME(asterix,             ram.bcd(0x5E, 0x5F, 0x60),  3, ram.low(0x53),      ram[0x47] == 1 && ram.low(0x53) == 1)  \
  GAME_PAYS(asteroids,      10 * ram.bcd(0x3D, 0x3E),   4, ram.high(0x3C),     ram.high(0x3C) == 0,                   \
                                                                               gain < 0 ? gain + 100000 : gain)       \
  ODD_GAME(atlantis,                                    6, ram[0x71])                                                 \
  ODD_GAME(atlantis2,                                   0, ram[0x71])                                                 \
  ODD_GAME(backgammon,                                  1, 1)                                                         \
  GAME(bank_heist,          ram.bcd(0x58, 0x59, 0x5A),  5, ram[0x55],          ram[0x4E] == 1 && ram[0x55] == 0)      \
  GAME(basic_math,          ram.bcd(0x04),              1, 1,                  ram.bcd(0x06) != 0)                    \
  GAME(battle_zone,         battle_zone_score(ram),     5, ram.low(0x3A),      ram.low(0x3A) == 0)                    \
  ODD_GAME(beam_rider,                                  3, rules.memory[0])                                           \
  GAME(berzerk,             ram.bcd(0x5D, 0x5E, 0x5F),  3, ram[0x5A] + 1,      ram[0x5A] == 0xFF)                     \
  GAME(blackjack,           blackjack_is_lost(ram) ? 0 : ram.bcd(0x06, 0x09), 1, 1,                                   \
                                                        blackjack_is_lost(ram) || score >= 1000)                      \
  GAME(bowling,             ram.bcd(0x26, 0x21),        0, 0,                  ram[0x24] > 0x10)                      \
  GAME(boxing,              boxing_points(ram, 0x12) - boxing_points(ram, 0x13), 0, 0, boxing_is_over(ram))           \
  ODD_GAME(breakout,                                    5, ram[0x39])                                                 \
  GAME(carnival,            10 * ram.bcd(0x2D, 0x2E),   0, 0,                  ram[0x03] == 0)                        \
  ODD_GAME(casino,                                      1, 1)                                                         \
  GAME_PAYS(centipede,      ram.bcd(0x74, 0x75, 0x76),  3, (ram[0x6D] >> 4 & 7) + 1, ram.bit(0x26, 6),                \
                                                                               gain < 0 ? 0 : gain)                   \
  ODD_GAME(chopper_command,                             3, ram.low(0x64))                                             \
  GAME_PAYS(crazy_climber,  crazy_climber_score(ram),   5, ram[0x2A],          ram[0x2A] == 0, gain < 0 ? 0 : gain)   \
  GAME(crossbow,            ram.bcd(0x0B, 0x0C, 0x0D),  1, 1,                  ram[0x67] == 0x82)                     \
  ODD_GAME(darkchambers,                                1, 1)                                                         \
  GAME(defender,            ram.digits(0x1C, 6),        3, ram[0x42],          ram[0x42] == 0)                        \
  GAME(demon_attack,        demon_attack_score(ram),    4, ram[0x72] + 1,      ram[0x72] == 0 && ram[0x71] == 0xBD)   \
  GAME(donkey_kong,         100 * ram.bcd(0x07, 0x08),  2, ram[0x23],                                                 \
                                                        ram[0x23] == 0 && ram[0x0F] == 3 && ram[0x0B] == 0x1F)        \
  GAME(double_dunk,         ram.bcd(0x76) - ram.bcd(0x77), 0, 0,                                                      \
                            (ram.bcd(0x76) >= 24 || ram.bcd(0x77) >= 24) && ram[0x7E] == 0xE7)                        \
  GAME(earthworld,          ram.bcd(0x27),              1, 1,                  score == 10)                           \
  GAME(elevator_action,     ram.bcd(0x07, 0x08, 0x09),  4, ram[0x03],          ram[0x03] == 0 && ram[0x01] != 0)      \
  GAME(enduro,              enduro_score(ram),          0, 0,                  ram[0x2F] == 0xFF)                     \
  GAME(entombed,            ram[0x63],                  1, 1,                  (ram[0x47] & 3) == 0)                  \
  GAME(et,                  ram.bcd(0x5F, 0x60, 0x61),  0, signed_byte(ram[0x65] + 1),                                \
                                                        ram[0x65] == 0xFF && ram[0x00] == 8)                          \
  GAME(fishing_derby,       ram.bcd(0x3D) - ram.bcd(0x3E), 0, 0,                                                      \
                                                        ram[0x3D] == 0x99 || ram[0x3E] == 0x99)                       \
  GAME(flag_capture,        ram.bcd(0x6A),              1, 1,                  ram.bcd(0x6B) == 0)                    \
  GAME_PAYS(freeway,        ram.bcd(0x67),              0, 0,                  ram[0x16] == 1,                        \
                                                                               gain < 0 ? 0 : gain > 1 ? 1 : gain)    \
  GAME(frogger,             ram.bcd(0x4C, 0x4E),        4, ram[0x50],          ram[0x50] == 0xFF)                     \
  GAME(frostbite,           ram.bcd(0x48, 0x49, 0x4A),  4, ram.low(0x4C) + 1,                                         \
                                                        ram.low(0x4C) == 0 && ram.bit(0x71, 7))                       \
  GAME_PAYS(galaxian,       ram.bcd(0x2C, 0x2D, 0x2E),  3, ram[0x39] + 1,      ram.bit(0x3F, 7),                      \
                                                                               gain < 0 ? gain + 1000000 : gain)      \
  GAME(gopher,              ram.bcd(0x30, 0x31, 0x32),  3, gopher_carrots(ram), ram.low3(0x34) == 0)                  \
  GAME(gravitar,            ram.bcd(0x07, 0x08, 0x09),  6, ram[0x01] ? ram[0x04] + 1 : 6, ram[0x01] == 1)             \
  ODD_GAME(hangman,                                     1, 1)                                                         \
  ODD_GAME(haunted_house,                               9, ram[0x16])                                                 \
  GAME(hero,                ram.bcd(0x37, 0x38, 0x39),  4, ram[0x33],          ram[0x33] == 0)                        \
  GAME(human_cannonball,    ram.bcd(0x36),              1, 1,                  score == 7 || ram.bcd(0x37) == 7)      \
  GAME_PAYS(ice_hockey,     ram.bcd(0x0A) - ram.bcd(0x0B), 0, 0,               ram[0x07] == 0 && ram[0x06] == 0,      \
                                                                               gain > 1 ? 1 : gain)                   \
  GAME(jamesbond,           ram.bcd(0x5E, 0x5D, 0x5C),  6, ram.low(0x06) + 1,                                         \
                                                        ram.low(0x06) == 0 && ram[0x0C] == 0x68)                      \
  GAME_PAYS(journey_escape, ram.bcd(0x10, 0x11, 0x12),  0, 0,                  ram[0x15] == 0 && ram[0x16] == 0,      \
                                                                               gain == 50000 ? 0 : gain)              \
  GAME(kaboom,              ram.bcd(0x23, 0x24, 0x25),  1, 1,                  ram[0x21] == 0 || score == 999999)     \
  GAME(kangaroo,            100 * ram.bcd(0x27, 0x28),  3, ram.low3(0x2D) + 1, ram[0x2D] == 0xFF)                     \
  GAME(keystone_kapers,     ram.bcd(0x1B, 0x1C),        3, ram[0x16],          ram[0x16] == 0 && ram[0x08] == 0)      \
  GAME(king_kong,           ram.bcd(0x02, 0x03),        3, ram[0x6E],          ram[0x6E] == 0)                        \
  GAME(klax,                cartridge.bcd(0x36, 0x35, 0x34), 1, 1,             klax_is_over(ram, cartridge))          \
  GAME(koolaid,             100 * ram.bcd(0x00, 0x01),  0, 0,                  ram[0x51] == 0x80)                     \
  GAME(krull,               ram.bcd(0x1C, 0x1D, 0x1E),  3, ram.low3(0x1F) + 1,                                        \
                                                        ram[0x1F] == 0 && ram[0x22] == 3 && ram[0x00] == 0x80)        \
  GAME(kung_fu_master,      ram.bcd(0x18, 0x19, 0x1A),  4, ram.low3(0x1D) + 1, ram[0x1D] == 0xFF)                     \
  GAME(laser_gates,         ram.bcd(0x00, 0x01, 0x02),  0, 0,                  ram[0x03] == 0)                        \
  GAME(lost_luggage,        ram.bcd(0x14, 0x15, 0x16),  3, ram[0x4A],                                                 \
                            ram[0x4A] == 0 && ram[0x48] == 0x0A && ram[0x25] == 0 && ram[0x29] == 0)                  \
  GAME(mario_bros,          100 * ram.bcd(0x09, 0x0A),  0, ram[0x07],          ram[0x07] == 0)                        \
  ODD_GAME(miniature_golf,                              1, 1)                                                         \
  GAME(montezuma_revenge,   ram.bcd(0x13, 0x14, 0x15),  6, ram.low3(0x3A) + 1, ram[0x3A] == 0 && ram[0x7E] == 0x60)   \
  GAME(mr_do,               10 * ram.bcd(0x03, 0x02),   4, ram[0x5B],          ram[0x5A] == 0x40)                     \
  GAME(ms_pacman,           ram.bcd(0x7A, 0x79, 0x78),  3, ram.low3(0x7B) + 1,                                        \
                                                        ram.low(0x7B) == 0 && ram[0x27] == 0x53)                      \
  GAME(name_this_game,      ram.bcd(0x44, 0x45, 0x46),  3, ram.low3(0x47),     ram.low3(0x47) == 0)                   \
  ODD_GAME(othello,                                     1, 1)                                                         \
  GAME(pacman,              ram.bcd(0x50, 0x4E, 0x4C),  4, ram[0x18] + 1,      ram[0x18] == 0 && ram[0x64] == 0x3F)   \
  GAME(phoenix,             100 * ram.bcd(0x49, 0x48) + 10 * ram.high(0x47), 5, ram.low3(0x4B), ram[0x4C] == 0x80)    \
  GAME(pitfall,             ram.bcd(0x55, 0x56, 0x57),  3, pitfall_lives(ram), ram.high(0x00) == 0 && ram[0x1E] != 0) \
  GAME(pitfall2,            ram.bcd(0x47, 0x48, 0x49),  1, 1,                  score == 199000)                       \
  GAME(pong,                ram[0x0E] - ram[0x0D],      0, 0,                  ram[0x0D] == 21 || ram[0x0E] == 21)    \
  GAME(pooyan,              ram.bcd(0x08, 0x09, 0x0A),  3, ram.low3(0x16) + 1, ram[0x16] == 0 && ram[0x18] == 5)      \
  GAME(private_eye,         ram.bcd(0x48, 0x49, 0x4A),  0, 0,                  ram[0x42] > 1)                         \
  ODD_GAME(qbert,                                       4, rules.memory[1])                                           \
  ODD_GAME(riverraid,                                   4, riverraid_lives(ram))                                      \
  GAME(road_runner,         100 * ram.digits(0x49, 4),  3, ram.low3(0x44) + 1,                                        \
                                                        ram.low3(0x44) == 0 && (ram[0x39] != 0 || ram[0x3D] != 0))    \
  GAME(robotank,            12 * ram[0x36] + ram[0x35], 4, ram.low(0x28) + 1,  ram[0x28] == 0 && ram[0x34] == 0xFF)   \
  GAME(seaquest,            ram.bcd(0x38, 0x39, 0x3A),  4, ram[0x3B] + 1,      ram[0x23] != 0)                        \
  GAME(sir_lancelot,        ram.bcd(0x1E, 0x1F, 0x20),  3, ram[0x29],          ram[0x29] == 0 && ram[0x27] == 0xA0)   \
  GAME_PAYS(skiing,         6000 * ram[0x68] + ram.bcd(0x69, 0x6A), 0, 0,      ram[0x11] == 0xFF, -gain)              \
  GAME(solaris,             10 * ram.bcd(0x5E, 0x5D, 0x5C), 3, ram.low(0x59),  ram[0x59] == 0)                        \
  GAME_PAYS(space_invaders, ram.bcd(0x66, 0x68),        3, ram[0x49],          ram.bit(0x18, 7) || ram[0x49] == 0,    \
                                                                               gain < 0 ? gain + 10000 : gain)        \
  GAME(space_war,           ram.bcd(0x27),              1, 1,                  score == 10 || ram[0x00] == 0)         \
  ODD_GAME(star_gunner,                                 5, rules.memory[0] ? ram.low(0x07) : 5)                       \
  ODD_GAME(superman,                                    1, 1)                                                         \
  GAME(surround,            ram.bcd(0x77) - ram.bcd(0x76), 1, 1,                                                      \
                                                        ram.bcd(0x76) == 10 || ram.bcd(0x77) == 10)                   \
  ODD_GAME(tennis,                                      0, 0)                                                         \
  ODD_GAME(tetris,                                      0, 0)                                                         \
  ODD_GAME(tic_tac_toe_3d,                              1, 1)                                                         \
  ODD_GAME(time_pilot,                                  5, rules.memory[0])                                           \
  GAME(trondead,            ram.bcd(0x3D, 0x3E, 0x3F),  5, 5 - ram[0x48],      ram[0x48] == 5)                        \
  GAME(turmoil,             10 * (ram.bcd(0x0A, 0x09) + ram[0x53]), 4, ram[0x39], ram[0x39] == 0 && ram[0x45] == 1)   \
  GAME(tutankham,           ram.bcd(0x1A, 0x1C),        3, ram[0x1E] & 3,      ram[0x1E] == 0 && ram[0x01] != 0x84)   \
  GAME(up_n_down,           ram.bcd(0x00, 0x01, 0x02),  5, ram.low(0x06) + 1,                                         \
                                                        ram[0x14] > 0x40 && ram.low(0x06) == 0)                       \
  GAME(venture,             100 * ram.bcd(0x47, 0x48),  4, ram.low3(0x46) + 1,                                        \
                                                        ram[0x46] == 0 && ram[0x4D] == 0xFF && ram.bit(0x3F, 7))      \
  ODD_GAME(video_checkers,                              1, 1)                                                         \
  ODD_GAME(video_chess,                                 1, 1)                                                         \
  ODD_GAME(video_cube,                                  1, 1)                                                         \
  GAME(video_pinball,       ram.bcd(0x34, 0x32, 0x30),  3, 4 + ram.bit(0x28, 0) - ram.low3(0x19), ram.bit(0x2F, 0))   \
  ODD_GAME(wizard_of_wor,                               3, rules.memory[0])                                           \
  ODD_GAME(word_zapper,                                 1, 1)                                                         \
  GAME(yars_revenge,        ram.bcd(0x60, 0x61, 0x62),  4, ram.high(0x1E),     ram.high(0x1E) == 0)                   \
  GAME(zaxxon,              100 * ram.bcd(0x68, 0x69),  5, ram.low3(0x6A),     ram.low3(0x6A) == 0)

enum Game : i32 {
#define CONSOLE_GAME(name, ...) GAME_##name,
  CONSOLE_GAMES(CONSOLE_GAME, CONSOLE_GAME, CONSOLE_GAME)
#undef CONSOLE_GAME
  GAME_COUNT
};

// As a new game begins: what is known before its first frame, and what odd games remember.
CONSOLE_FN void begin_rules(i32 game, Rules& rules) {
  rules = Rules{};
  switch (game) {
#define CONSOLE_GAME(name, score, start_lives, ...) case GAME_##name: rules.lives = start_lives; break;
#define CONSOLE_ODD_GAME(name, start_lives, ...) case GAME_##name: rules.lives = start_lives; break;
    CONSOLE_GAMES(CONSOLE_GAME, CONSOLE_GAME, CONSOLE_ODD_GAME)
#undef CONSOLE_GAME
#undef CONSOLE_ODD_GAME
    default: break;
  }
  switch (game) {
    case GAME_pitfall: rules.score = 2000; break;
    case GAME_pitfall2: rules.score = 4000; break;
    case GAME_private_eye: rules.score = 1000; break;
    case GAME_beam_rider: case GAME_wizard_of_wor: rules.memory[0] = 3; break;  // lives
    case GAME_time_pilot: rules.memory[0] = 5; break;                           // lives
    case GAME_hangman: rules.memory[0] = -1; break;                             // no timer seen yet
    case GAME_video_cube: rules.memory[1] = -1; break;                          // no timer seen yet
    case GAME_qbert: rules.memory[0] = 2; rules.memory[1] = 4; break;           // spare lives, lives
    case GAME_riverraid: rules.memory[0] = 0x58; break;                         // the byte of lives
    default: break;
  }
}

// After every emulated frame, whoever caused it. `cartridge_ram`: 128 bytes, read in klax only.
CONSOLE_NOINLINE CONSOLE_FN void apply_rules(i32 game, const u8* ram_bytes, const u8* cartridge_ram, Rules& rules) {
  const Ram ram{ram_bytes}, cartridge{cartridge_ram};
  switch (game) {
#define CONSOLE_PAYS(name, new_score, start_lives, new_lives, is_over, new_reward) \
    case GAME_##name: {                                                             \
      const i32 score = new_score, gain = score - rules.score;                      \
      rules.over = is_over;                                                         \
      rules.reward = new_reward;                                                    \
      rules.lives = new_lives;                                                      \
      rules.score = score;                                                          \
      break;                                                                        \
    }
#define CONSOLE_GAME(name, new_score, start_lives, new_lives, is_over) \
    CONSOLE_PAYS(name, new_score, start_lives, new_lives, is_over, gain)
#define CONSOLE_ODD_GAME(name, start_lives, new_lives) \
    case GAME_##name: apply_##name(ram, rules); rules.lives = new_lives; break;
    CONSOLE_GAMES(CONSOLE_GAME, CONSOLE_PAYS, CONSOLE_ODD_GAME)
#undef CONSOLE_PAYS
#undef CONSOLE_GAME
#undef CONSOLE_ODD_GAME
    default: break;
  }
  if (rules.over && game != GAME_adventure) rules.lives = 0;
}

#if !CONSOLE_GPU
// The name of a game as ALE spells it, or nullptr.
inline const char* game_name(i32 game) {
#define CONSOLE_GAME(name, ...) #name,
  static const char* const names[] = {CONSOLE_GAMES(CONSOLE_GAME, CONSOLE_GAME, CONSOLE_GAME)};
#undef CONSOLE_GAME
  return game >= 0 && game < GAME_COUNT ? names[game] : nullptr;
}
#endif

}  // namespace console
