// What a JPEG stream says before its data, as far as this decoder goes (ITU-T T.81, annex B).
//
// For the host alone. Whatever is rare, odd or wrong is not read: then another decoder has its say.
#pragma once

#include "target.h"

namespace jpegin {

constexpr int COMPONENTS = 3;
constexpr int LONGEST_SIDE = 65500;  // that libjpeg decodes

struct Component {
  int id, across, down;
  int steps, means, others;  // which tables
};

struct Head {
  const u8* steps[4];     // in zigzag order
  const u8* codes[2][4];  // of means, of the other coefficients: lengths, then symbols
  int symbols[2][4];
  Component components[COMPONENTS];
  int count, width, height;
  int interval;      // MCUs from a restart to the next, 0: there are none
  int adobe, shared; // the transform that the stream's, the tables' Adobe marker tells, -1: there is none
  bool jfif;
  const u8* data;  // the scan's

  bool read_steps(const u8* at, i64 size) {
    for (; size > 0; at += 65, size -= 65) {
      if (size < 65 || at[0] > 3) return false;  // of 8 bits
      steps[at[0]] = at + 1;
    }
    return true;
  }

  bool read_codes(const u8* at, i64 size) {
    while (size > 0) {
      if (size < 17 || (at[0] & 0xec)) return false;
      int all = 0;
      for (int length = 1; length <= 16; ++length) all += at[length];
      if (all > 256 || size < 17 + all) return false;
      codes[at[0] >> 4][at[0] & 15] = at + 1;
      symbols[at[0] >> 4][at[0] & 15] = all;
      at += 17 + all, size -= 17 + all;
    }
    return true;
  }

  bool read_frame(const u8* at, i64 size) {
    if (count || size < 6 || at[0] != 8) return false;
    height = at[1] << 8 | at[2], width = at[3] << 8 | at[4];
    count = at[5];
    if ((count != 1 && count != COMPONENTS) || size != 6 + 3 * count) return false;
    if (!width || !height || width > LONGEST_SIDE || height > LONGEST_SIDE) return false;
    for (int c = 0; c < count; ++c) {
      const u8* told = at + 6 + 3 * c;
      Component& component = components[c];
      component = {told[0], told[1] >> 4, told[1] & 15, told[2], 0, 0};
      if (component.steps > 3 || !is_factor(component.across) || !is_factor(component.down)) return false;
      for (int other = 0; other < c; ++other)
        if (components[other].id == component.id) return false;
    }
    if (count == 1) components[0].across = components[0].down = 1;  // the blocks follow each other as they lie
    const int across = components[0].across, down = components[0].down;
    for (int c = 1; c < count; ++c)
      if (components[c].across != 1 || components[c].down != 1) return false;
    return across <= 2 && down <= across;
  }

  // The only scan: of all components, in their order.
  bool read_scan(const u8* at, i64 size) {
    if (!count || size != 4 + 2 * count || at[0] != count) return false;
    for (int c = 0; c < count; ++c) {
      const int tables = at[2 + 2 * c];
      if (at[1 + 2 * c] != components[c].id || (tables & 0xcc)) return false;
      components[c].means = tables >> 4, components[c].others = tables & 15;
    }
    const u8* rest = at + 1 + 2 * count;
    return rest[0] == 0 && rest[1] == 63 && rest[2] == 0;
  }

  // Reads a stream up to its data, or the tables of a page, which end without any.
  bool read(const u8* at, i64 size, bool tables) {
    const u8* const end = at + size;
    if (size < 4 || at[0] != 255 || at[1] != 0xd8) return false;
    for (at += 2; end - at >= 4;) {
      const int marker = at[1];
      if (at[0] != 255) return false;
      if (marker == 0xd9) return tables;
      const i64 room = (at[2] << 8 | at[3]) - 2;
      at += 4;
      if (marker < 0xc0 || room < 0 || room > end - at) return false;
      bool good = true;
      if (marker == 0xdb) good = read_steps(at, room);
      else if (marker == 0xc4) good = read_codes(at, room);
      else if (marker == 0xdd && room != 2) good = false;
      else if (marker == 0xdd) interval = tables ? 0 : at[0] << 8 | at[1];
      else if (marker == 0xee && room >= 12 && begins(at, "Adobe")) {
        if (!tables) adobe = at[11];
        else if (shared < 0) shared = at[11];
      }
      else if (marker == 0xe0 && room >= 5 && begins(at, "JFIF")) jfif |= !tables && !at[4];
      else if (tables && marker < 0xe0) good = false;
      else if (marker == 0xc0 || marker == 0xc1) good = read_frame(at, room);
      else if (marker == 0xda) {
        data = at + room;
        return read_scan(at, room);
      } else good = marker == 0xfe || (marker >= 0xe0 && marker <= 0xef);
      if (!good) return false;
      at += room;
    }
    return tables && end - at >= 2 && at[0] == 255 && at[1] == 0xd9;
  }

  // Whether three components are RGB, where the page says so: the rule of Header.is_rgb.
  bool is_rgb(bool said) const {
    const int transform = adobe < 0 ? shared : adobe;
    if (transform >= 0) return transform == 0;
    return !jfif && (said || (components[0].id == 'R' && components[1].id == 'G' && components[2].id == 'B'));
  }

 private:
  static bool is_factor(int value) { return value >= 1 && value <= 4; }
  static bool begins(const u8* at, const char* word) {
    for (; *word; ++word, ++at)
      if (*at != (u8)*word) return false;
    return true;
  }
};

}  // namespace jpegin
