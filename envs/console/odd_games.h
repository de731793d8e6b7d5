// The odd games: those that remember something between frames, and pieces of rules.h that fill no cell of
// its table. Each function says what is odd; all of it was checked by playing beside ALE.
//
// An apply_ function runs after every frame and sets reward, over and score; its game's lives stand in the
// table. What it remembers in rules.memory begins at 0 where begin_rules in rules.h says nothing else.
#pragma once
#include "game_ram.h"

namespace console {

// ---- Scores, lives and ends that need more than a line of the table ----

// Alien: a digit is the offset of its picture, 8 bytes each, in every second byte; 0x80 is a blank.
CONSOLE_FN i32 alien_score(const Ram& ram) {
  i32 value = 0;
  for (i32 at = 0x03; at <= 0x0B; at += 2) value = 10 * value + (ram[at] == 0x80 ? 0 : ram[at] >> 3);
  return 10 * value;
}

// Battle Zone: three digits in two bytes, blanks among them.
CONSOLE_FN i32 battle_zone_score(const Ram& ram) {
  const i32 hundreds = Ram::blank_is_zero(ram.high(0x1E)), tens = Ram::blank_is_zero(ram.low(0x1E));
  return 1000 * (100 * hundreds + 10 * tens + Ram::blank_is_zero(ram.high(0x1D)));
}

// Blackjack: the display of a player who lost all stands where the chips stood.
CONSOLE_FN bool blackjack_is_lost(const Ram& ram) { return ram[0x06] == 0x0B && ram[0x09] == 0xBB; }

// Boxing: a knock-out is the byte 0xC0 and counts as 100 points.
CONSOLE_FN i32 boxing_points(const Ram& ram, i32 at) { return ram[at] == 0xC0 ? 100 : ram.bcd(at); }

// Boxing: ends with 100 points or when the clock, minutes in a high half and seconds, has run out.
CONSOLE_FN bool boxing_is_over(const Ram& ram) {
  const bool out_of_time = ram.high(0x10) == 0 && ram.bcd(0x11) == 0;
  return boxing_points(ram, 0x12) == 100 || boxing_points(ram, 0x13) == 100 || out_of_time;
}

// Crazy Climber: one digit a byte.
CONSOLE_FN i32 crazy_climber_score(const Ram& ram) {
  return 100 * (1000 * ram[0x05] + 100 * ram[0x04] + 10 * ram[0x03] + ram[0x02]);
}

// Demon Attack: before the first game the score's place shows AB CD EA.
CONSOLE_FN i32 demon_attack_score(const Ram& ram) {
  const bool before_first = ram[0x01] == 0xAB && ram[0x03] == 0xCD && ram[0x05] == 0xEA;
  return before_first ? 0 : ram.bcd(0x01, 0x03, 0x05);
}

// Enduro: RAM holds the day and the cars still to pass, 200 on the first day and 300 on the others; the
// score is the number of cars passed.
CONSOLE_FN i32 enduro_score(const Ram& ram) {
  const i32 day = ram[0x2D];
  return day == 0 ? 0 : 200 + 300 * (day - 1) - ram.bcd(0x2C, 0x2B);
}

// Gopher: a life is a carrot, a bit each.
CONSOLE_FN i32 gopher_carrots(const Ram& ram) {
  return ram.bit(0x34, 0) + ram.bit(0x34, 1) + ram.bit(0x34, 2);
}

// Klax: ends when all misses are used up, when the well is full in the state that tests it, or after
// level 99; in the well 0, 2, 6, 10 and 14 are free.
CONSOLE_FN bool klax_is_over(const Ram& ram, const Ram& cartridge) {
  const i32 allowed = cartridge[0x69], misses = cartridge[0x6E], level = cartridge[0x1D];
  bool full = ram[0x28] == 4;
  for (i32 cell = 0x33; cell < 0x33 + 25; cell++) {
    const i32 tile = ram[cell];
    if (tile == 0 || tile == 2 || tile == 6 || tile == 10 || tile == 14) full = false;
  }
  return (allowed > 0 && misses == allowed) || full || level == 0x99;
}

// Pitfall: lives are drawn as marks, a pattern in a high half.
CONSOLE_FN i32 pitfall_lives(const Ram& ram) {
  return ram.high(0x00) == 10 ? 3 : ram.high(0x00) == 8 ? 2 : 1;
}

// River Raid: a digit is the offset of its picture, 8 bytes each; what is no digit counts as 0.
CONSOLE_FN i32 riverraid_score(const Ram& ram) {
  i32 value = 0;
  for (i32 at = 0x4D; at <= 0x57; at += 2) {
    const i32 offset = ram[at];
    value = 10 * value + (offset % 8 == 0 && offset <= 72 ? offset / 8 : 0);
  }
  return value;
}

// River Raid: lives are 8 a spare plane; 0x58 stands for the start, 0x59 for the last plane.
CONSOLE_FN i32 riverraid_lives(const Ram& ram) {
  return ram[0x40] == 0x58 ? 4 : ram[0x40] == 0x59 ? 1 : ram[0x40] / 8 + 1;
}

// ---- Games that remember ----

// The usual reward: the change of the score.
CONSOLE_FN void pay_gain(Rules& rules, i32 score) {
  rules.reward = score - rules.score;
  rules.score = score;
}

// Adventure pays nothing but 1 for the chalice in the yellow castle, and keeps its one life when eaten.
CONSOLE_FN void apply_adventure(const Ram& ram, Rules& rules) {
  const bool won = ram[0x39] == 0x12, eaten = ram[0x60] == 2;
  if (won) rules.reward = 1;
  rules.over = eaten || won;
}

// Both Atlantis pay nothing in the frames of their end, and do not take over the score there.
CONSOLE_FN void pay_gain_until_end(Rules& rules, i32 score) {
  if (rules.over) rules.reward = 0;
  else pay_gain(rules, score);
}
CONSOLE_FN void apply_atlantis(const Ram& ram, Rules& rules) {
  rules.over = ram[0x71] == 0xFF;
  pay_gain_until_end(rules, 100 * ram.bcd(0x21, 0x23, 0x22));
}
CONSOLE_FN void apply_atlantis2(const Ram& ram, Rules& rules) {
  rules.over = ram[0x71] == 0xFF;
  pay_gain_until_end(rules, ram.bcd(0x23, 0x22, 0x21));
}

// Backgammon counts pieces, the player's as negative numbers; the computer thinks in the same bytes, so a
// result holds only while each side has 15. The sums are bytes, as in ALE.
CONSOLE_FN void apply_backgammon(const Ram& ram, Rules& rules) {
  const i32 player_off = signed_byte(-ram.signed_at(0x00)), computer_off = ram.signed_at(0x0E);
  i32 player_on = 0, computer_on = 0;
  for (i32 point = 0x01; point < 0x1C; point++) {
    const i32 pieces = point == 0x0E ? 0 : ram.signed_at(point);
    if (pieces > 0) computer_on += pieces;
    else player_on -= pieces;
  }
  if (signed_byte(computer_on) + computer_off != 15 || signed_byte(player_on) + player_off != 15) return;
  if (player_off != 15 && computer_off != 15) return;
  rules.reward = player_off == 15 ? 1 : -1;
  rules.over = 1;
}

// Beam Rider's counter of lives blinks while the player dies: one life less holds only in a marked frame.
CONSOLE_FN void apply_beam_rider(const Ram& ram, Rules& rules) {
  i32& lives = rules.memory[0];
  const i32 shown = ram[0x05] + 1;
  if (shown != lives - 1 || ram[0x0C] == 1) lives = shown;
  pay_gain(rules, ram.bcd(0x0B, 0x0A, 0x09));
  rules.over = ram[0x05] == 0xFF;
}

// Breakout has 0 balls before it starts, too. Its score has three digits.
CONSOLE_FN void apply_breakout(const Ram& ram, Rules& rules) {
  i32& started = rules.memory[0];
  if (ram[0x39] == 5) started = 1;
  pay_gain(rules, 100 * ram.low(0x4C) + ram.bcd(0x4D));
  rules.over = started && ram[0x39] == 0;
}

// Casino pays the last reward again in each frame in which it takes no input, but for poker solitaire.
CONSOLE_FN void apply_casino(const Ram& ram, Rules& rules) {
  const i32 score = ram.bcd(0x0C, 0x15);
  const bool solitaire = ram[0x54] == 3, deaf = ram.bit(0x53, 7);
  if (solitaire || !deaf) rules.reward = score - rules.score;
  if (solitaire) rules.over = score > 0 && ram[0x1E] == 0xAA;
  else rules.over = score == 0 || (ram.bcd(0x1E) > 0 && deaf);
  rules.score = score;
}

// Chopper Command shows a game without lives before the first button.
CONSOLE_FN void apply_chopper_command(const Ram& ram, Rules& rules) {
  i32& started = rules.memory[0];
  started |= ram.bit(0x42, 0);
  pay_gain(rules, 100 * ram.bcd(0x6C, 0x6E));
  rules.over = started && ram.low(0x64) == 0;
}

// Darkchambers ends for good when level or score fall (the score overflowed), or without health.
CONSOLE_FN void apply_darkchambers(const Ram& ram, Rules& rules) {
  i32& level = rules.memory[0];
  const i32 score = 10 * ram.bcd(0x4F, 0x4C), health = ram[0x4A] & 31;
  rules.reward = 0;
  if (ram[0x55] < level) { rules.over = 1; return; }
  level = ram[0x55];
  if (score >= rules.score) pay_gain(rules, score);
  else rules.over = 1;
  if (health == 0) rules.over = 1;
}

// Hangman is over after one word, won or lost, or when the timer falls from 255 to 0.
CONSOLE_FN void apply_hangman(const Ram& ram, Rules& rules) {
  i32& last_timer = rules.memory[0];
  pay_gain(rules, ram.bcd(0x6B) - ram.bcd(0x6C));
  rules.over = rules.reward != 0 || (last_timer == 255 && ram[0x71] == 0);
  last_timer = ram[0x71];
}

// Haunted House takes 1 for each match and pays 100 for the urn.
CONSOLE_FN void apply_haunted_house(const Ram& ram, Rules& rules) {
  i32& matches = rules.memory[0];
  const bool won = ram[0x19] == 0x44;
  rules.reward = (ram.bcd(0x02) != matches ? -1 : 0) + (won ? 100 : 0);
  matches = ram.bcd(0x02);
  rules.over = ram[0x16] == 0 || won;
}

// Miniature Golf pays once a hole: par less strokes. Par stands in RAM between the holes only, and the
// strokes, which run on from hole to hole, go back to 0 after 99.
CONSOLE_FN void apply_miniature_golf(const Ram& ram, Rules& rules) {
  i32 &hole = rules.memory[0], &par = rules.memory[1], &strokes = rules.memory[2];
  i32 &wrapped = rules.memory[3], &strokes_before = rules.memory[4];
  rules.reward = 0;
  if (ram.bcd(0x2F) != hole) {
    const i32 used = strokes + wrapped - strokes_before;
    if (used > 0) rules.reward = par - used;
    hole = ram.bcd(0x2F);
    wrapped = 0;
    strokes_before = strokes;
    if (hole == 0) rules.over = 1;
  }
  if (ram.bcd(0x08) != 0) { par = ram.bcd(0x08); return; }
  if (ram.bcd(0x07) < strokes) wrapped += strokes;
  strokes = ram.bcd(0x07);
}

// Othello is over when nobody has been at turn for 50 frames; the score is the player's lead in discs.
CONSOLE_FN void apply_othello(const Ram& ram, Rules& rules) {
  i32& idle_frames = rules.memory[0];
  idle_frames = ram[0x40] == 0 ? idle_frames + 1 : 0;
  pay_gain(rules, ram.bcd(0x4E) - ram.bcd(0x50));
  rules.over = idle_frames > 50;
}

// Q*bert's lives are counted by their falls; -1 to 2 is a game that a button began in the frame of death.
CONSOLE_FN void apply_qbert(const Ram& ram, Rules& rules) {
  i32 &last = rules.memory[0], &lives = rules.memory[1];
  const i32 spare = ram.signed_at(0x08);
  rules.over = spare == -2 || (spare == 2 && last == -1);
  if (spare == last - 1) lives--;
  last = spare;
  pay_gain_until_end(rules, ram.bcd(0x59, 0x5A, 0x5B));
}

// River Raid is over in the one frame in which its byte of lives goes from the last plane to the start.
CONSOLE_FN void apply_riverraid(const Ram& ram, Rules& rules) {
  i32& last_byte = rules.memory[0];
  pay_gain(rules, riverraid_score(ram));
  rules.over = ram[0x40] == 0x58 && last_byte == 0x59;
  last_byte = ram[0x40];
}

// Star Gunner's lives count from when they have been 5: before, there are 6.
CONSOLE_FN void apply_star_gunner(const Ram& ram, Rules& rules) {
  i32& started = rules.memory[0];
  if (ram[0x07] == 5) started = 1;
  pay_gain(rules, 100 * ram.digits(0x03, 4));
  rules.over = ram[0x07] == 0;
}

// Superman pays once: the seconds left of 5999 when Clark Kent is back in his office.
CONSOLE_FN void apply_superman(const Ram& ram, Rules& rules) {
  const bool is_clark_kent = ram.bit(0x1F, 6), in_office = ram[0x01] == 0xF2 && ram[0x00] == 0xAC;
  rules.over = is_clark_kent && in_office;
  rules.reward = rules.over ? 5999 - (60 * ram.bcd(0x63) + ram.bcd(0x62)) : 0;
}

// Tennis pays points, but where a game was won pays that instead of what the points fell back by.
CONSOLE_FN void apply_tennis(const Ram& ram, Rules& rules) {
  i32 &last_lead = rules.memory[0], &last_points = rules.memory[1];
  const i32 points = ram[0x45] - ram[0x46], mine = ram[0x47], theirs = ram[0x48], lead = mine - theirs;
  rules.reward = lead != last_lead ? lead - last_lead : points - last_points;
  last_lead = lead;
  last_points = points;
  rules.over = (mine >= 6 && lead >= 2) || (theirs >= 6 && lead <= -2) || mine == 7 || theirs == 7;
}

// Tetris pays no negative rewards and begins to count anew after the end.
CONSOLE_FN void apply_tetris(const Ram& ram, Rules& rules) {
  const i32 score = ram.bcd(0x72, 0x71);
  rules.reward = score > rules.score ? score - rules.score : 0;
  rules.over = ram.bit(0x73, 7);
  rules.score = rules.over ? 0 : score;
}

// 3-D Tic-Tac-Toe tells its end by a return address on the processor's stack. A full cube is a draw.
CONSOLE_FN void apply_tic_tac_toe_3d(const Ram& ram, Rules& rules) {
  const bool decided = ram[0x7F] == 0xF3 && ram[0x7E] == 0x10, player_won = ram[0x61] == 8;
  bool full = true;
  for (i32 cell = 0x1A; cell < 0x1A + 64; cell++) full = full && ram[cell] != 0;
  rules.reward = !decided ? 0 : player_won ? 1 : -1;
  if (decided || full) rules.over = 1;
}

// Time Pilot's lives hold only on the screen of play.
CONSOLE_FN void apply_time_pilot(const Ram& ram, Rules& rules) {
  i32& lives = rules.memory[0];
  if (ram.low(0x00) == 2) lives = ram.low3(0x0B) + 1;
  pay_gain(rules, 100 * ram.bcd(0x0F, 0x0D));
  rules.over = ram[0x20] != 0;
}

// Video Checkers is over when a side has no piece left on the board; modes 11 to 19 (memory[0] is 1, set
// with the mode) turn the winner round.
CONSOLE_FN void apply_video_checkers(const Ram& ram, Rules& rules) {
  bool black = false, white = false;
  for (i32 square = 0; square < 0x23; square++) {
    if (square % 9 == 8) continue;  // between the rows
    const i32 piece = ram[square];
    black = black || piece == 0x10 || piece == 0x20;
    white = white || piece == 0x90 || piece == 0xA0;
  }
  if (black && white) return;
  const i32 for_black = black ? 1 : -1;
  rules.reward = rules.memory[0] ? -for_black : for_black;
  rules.over = 1;
}

// Video Chess: RAM means something only at white's turn, which is the player's.
CONSOLE_FN void apply_video_chess(const Ram& ram, Rules& rules) {
  rules.reward = 0;
  if (ram[0x61] != 0x82 || ram[0x6E] > 1) return;
  rules.reward = ram[0x6E] == 0 ? 1 : -1;
  rules.over = 1;
}

// Video Cube pays finished faces, and takes 1 when the time is up: the timer falls from 255 to 0.
CONSOLE_FN void apply_video_cube(const Ram& ram, Rules& rules) {
  i32 &last_faces = rules.memory[0], &last_timer = rules.memory[1];
  i32 faces = 0;
  for (i32 first = 0x20; first < 0x20 + 6 * 9; first += 9) {
    bool one_colour = true;
    for (i32 k = 1; k < 9; k++) one_colour = one_colour && ram[first + k] == ram[first];
    faces += one_colour;
  }
  const bool out_of_time = last_timer == 255 && ram[0x5B] == 0;
  rules.reward = out_of_time ? -1 : faces - last_faces;
  rules.over = out_of_time || faces == 6;
  last_faces = faces;
  last_timer = ram[0x5B];
}

// Wizard of Wor's lives hold only in marked frames; from a score of 8000 on RAM shows 8000 too many.
CONSOLE_FN void apply_wizard_of_wor(const Ram& ram, Rules& rules) {
  i32& lives = rules.memory[0];
  if (!ram.bit(0x57, 0)) lives = ram.low(0x0D);
  const i32 shown = ram.bcd(0x08, 0x06);
  pay_gain(rules, 100 * (shown >= 8000 ? shown - 8000 : shown));
  rules.over = ram.low(0x0D) == 0 && ram[0x74] == 0xF8;
}

// Word Zapper pays rounds; while its clock shows 0 it pays the last reward again.
CONSOLE_FN void apply_word_zapper(const Ram& ram, Rules& rules) {
  if (ram.bcd(0x4F) == 0) return;
  pay_gain(rules, 2 - ram.signed_at(0x5C));
  rules.over = rules.score == 3 || ram.bcd(0x5E) == 0;
}

}  // namespace console
