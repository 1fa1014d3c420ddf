// Where the coded data of a JPEG stream end (ITU-T T.81): its scans are walked, no pixel is made.
//
// For the host alone. A decoder makes up what a stream that is cut off lacks, and says nothing:
// only counting tells such a stream from one that has all of its data and lacks its end marker.
#pragma once

#include "target.h"

namespace scan {

constexpr int MOST_COMPONENTS = 4;

INLINE i64 ceil_of(i64 value, i64 step) { return (value + step - 1) / step; }

// The coded bits from `at` on, up to a marker or the end of the data.
struct Bits {
  const u8* data;
  i64 size;
  i64 at;
  u32 held = 0;
  int count = 0;
  bool over = false;  // more bits were wanted than there are

  int next() {
    if (!count && !refill()) return 0;
    return held >> --count & 1;
  }

  void skip(int bits) {
    while (bits-- > 0 && !over) next();
  }

  bool refill() {
    const bool escaped = at < size && data[at] == 255;
    over = at >= size || (escaped && (at + 1 >= size || data[at + 1] != 0));
    if (over) return false;
    held = data[at];
    count = 8;
    at += 1 + escaped;
    return true;
  }

  // Goes beyond the restart marker of a number, which has to come next.
  bool restart(int number) {
    count = 0;
    while (at + 1 < size && data[at] == 255 && data[at + 1] == 255) ++at;
    if (at + 1 >= size || data[at] != 255 || data[at + 1] != 0xD0 + (number & 7)) return false;
    at += 2;
    return true;
  }
};

// A Huffman table: codes of a length count up (annex C).
struct Codes {
  const u8* symbols = nullptr;
  int first[17] = {};   // code of each length
  int count[17] = {};
  int before[17] = {};  // symbols of shorter codes

  i64 read(const u8* data, i64 size) {
    i64 all = 0;
    int code = 0;
    for (int length = 1; length <= 16; ++length, code <<= 1) {
      if (length > size) return -1;
      first[length] = code;
      before[length] = (int)all;
      count[length] = data[length - 1];
      code += count[length];
      all += count[length];
    }
    symbols = data + 16;
    return all <= 256 && 16 + all <= size ? 16 + all : -1;
  }

  int next(Bits& bits) const {
    int code = 0;
    for (int length = 1; symbols && length <= 16; ++length) {
      code = code << 1 | bits.next();
      if (bits.over) return -1;
      if (code - first[length] < count[length]) return symbols[before[length] + code - first[length]];
    }
    return -1;
  }
};

struct Component {
  int id, across, down, dc, ac;
  bool done;
};

struct Walk {
  Codes tables[2][4];  // of means, of the other coefficients
  Component components[MOST_COMPONENTS];
  int count = 0;
  int across = 1, down = 1;  // greatest sampling factors
  i64 width = 0, height = 0, interval = 0;
  bool lossless = false;

  bool frame(const u8* data, i64 size, bool whole) {
    if (count || size < 6) return false;
    height = data[1] << 8 | data[2], width = data[3] << 8 | data[4];
    count = data[5], lossless = whole;
    if (count < 1 || count > MOST_COMPONENTS || size < 6 + 3 * count || !width || !height) return false;
    for (int c = 0; c < count; ++c) {
      const u8* told = data + 6 + 3 * c;
      components[c] = {told[0], told[1] >> 4, told[1] & 15, 0, 0, false};
      if (!components[c].across || !components[c].down) return false;
      if (components[c].across > across) across = components[c].across;
      if (components[c].down > down) down = components[c].down;
    }
    return true;
  }

  bool codes(const u8* data, i64 size) {
    while (size > 0) {
      const int kind = data[0] >> 4, place = data[0] & 15;
      if (kind > 1 || place > 3) return false;
      Codes fresh;
      const i64 taken = fresh.read(data + 1, size - 1);
      if (taken < 0) return false;
      tables[kind][place] = fresh;
      data += 1 + taken, size -= 1 + taken;
    }
    return true;
  }

  // One data unit: a block, or a sample of lossless coding.
  bool unit(Bits& bits, const Component& component) const {
    const int mean = tables[0][component.dc].next(bits);
    if (mean < 0 || mean > 16) return false;
    bits.skip(lossless && mean == 16 ? 0 : mean);
    for (int k = 1; k < 64 && !lossless; ++k) {
      const int symbol = tables[1][component.ac].next(bits);
      if (symbol < 0) return false;
      const int run = symbol >> 4, width = symbol & 15;
      if (!width && run != 15) break;
      k += run;
      if (k > 63) return false;
      bits.skip(width);
    }
    return !bits.over;
  }

  // The scan whose header is given and whose data begin at `bits`; whether all of it is there.
  bool scan(const u8* header, i64 size, Bits& bits) {
    Component* chosen[MOST_COMPONENTS];
    const int among = size > 0 ? header[0] : 0;
    if (among < 1 || among > count || size < 1 + 2 * among) return false;
    for (int i = 0; i < among; ++i) {
      chosen[i] = nullptr;
      for (int c = 0; c < count; ++c)
        if (components[c].id == header[1 + 2 * i]) chosen[i] = &components[c];
      const int tables = header[2 + 2 * i];
      if (!chosen[i] || chosen[i]->done || tables >> 4 > 3 || (tables & 15) > 3) return false;
      chosen[i]->dc = tables >> 4, chosen[i]->ac = tables & 15, chosen[i]->done = true;
    }
    const int side = lossless ? 1 : 8;
    const bool alone = among == 1;
    const i64 columns = alone ? ceil_of(ceil_of(width * chosen[0]->across, across), side)
                              : ceil_of(width, (i64)side * across);
    const i64 rows = alone ? ceil_of(ceil_of(height * chosen[0]->down, down), side)
                           : ceil_of(height, (i64)side * down);
    for (i64 at = 0; at < columns * rows; ++at) {
      if (at && interval && at % interval == 0 && !bits.restart((int)(at / interval - 1))) return false;
      for (int i = 0; i < among; ++i)
        for (int n = alone ? 1 : chosen[i]->across * chosen[i]->down; n > 0; --n)
          if (!unit(bits, *chosen[i])) return false;
    }
    return true;
  }

  bool complete() const {
    for (int c = 0; c < count; ++c)
      if (!components[c].done) return false;
    return count > 0;
  }
};

// The byte behind the last one that the pixels need; -1 where one of those is not there, or
// where the stream is of a kind that is not walked (progressive, arithmetic). `whole` asks, too,
// that the last byte has no bits that only fill it up.
inline i64 end_of(const u8* data, i64 size, bool whole) {
  Walk walk;
  i64 at = 2;
  while (at + 4 <= size) {
    if (data[at] != 255 || data[at + 1] == 255 || data[at + 1] == 0) {  // fill, or what is left of a scan
      ++at;
      continue;
    }
    const int marker = data[at + 1];
    if (marker == 1 || (marker >= 0xD0 && marker <= 0xD8)) {
      at += 2;
      continue;
    }
    const i64 length = data[at + 2] << 8 | data[at + 3];
    const u8* part = data + at + 4;
    const i64 room = length - 2;
    at += 2 + length;
    if (room < 0 || at > size) return -1;
    bool good = true;
    if (marker == 0xC4) good = walk.codes(part, room);
    else if (marker == 0xDD && room >= 2) walk.interval = part[0] << 8 | part[1];
    else if (marker == 0xDA) {
      Bits bits{data, size, at};
      good = walk.scan(part, room, bits);
      at = bits.at;
      if (good && walk.complete()) return whole && bits.count ? -1 : at;
    } else if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC8)
      good = (marker == 0xC0 || marker == 0xC1 || marker == 0xC3) && walk.frame(part, room, marker == 0xC3);
    else if (marker == 0xD9 || marker == 0xDC) good = false;
    if (!good) return -1;
  }
  return -1;
}

}  // namespace scan
