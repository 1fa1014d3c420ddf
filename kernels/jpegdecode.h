// Baseline JPEG streams to pixels (ITU-T T.81): several at once on one core.
//
// For the host alone. A stream that is decoded gives the pixels that libjpeg-turbo makes of it; one that
// is odd in any way is not done, and is for libjpeg-turbo to decode, or to refuse in its own words.
#pragma once

#include "jpeghead.h"
#include "jpegpixels.h"
#include "pixel.h"

namespace jpegin {

constexpr int MOST_LANES = 2;  // more of them than registers have room for are slower
constexpr int SLOTS = 2 * COMPONENTS * MOST_LANES;  // of tables: as many as the streams at work may need

// Memory for one stream, taken off its front.
struct Room {
  u8* at;
  i64 left;

  template <class T> T* take(i64 count) {
    const i64 size = (count * (i64)sizeof(T) + 63) & ~(i64)63;
    u8* const from = at;
    at += size, left -= size;
    return left < 0 ? nullptr : (T*)from;
  }
};

// The samples of a component that an MCU row has, with a row above them: the last one of the row before.
struct Plane {
  i16* coefs;  // groups of blocks
  u8* most;    // of each group: coefficients of a block
  i16 steps[64];
  u8* rows;
  i64 pitch;
  int across, down, groups;  // blocks of an MCU; groups in a row of blocks
  i32 mean;
};

struct Lane {
  const JpegDecode* job = nullptr;
  Head head;
  Turn turn;
  Plane planes[COMPONENTS];
  Block* blocks;
  Block* last;   // behind all of a row
  Block* begin;  // of those at work
  const u8* from;  // the coded data behind those in `stream`
  u8* stream;
  u64 end;  // the bit behind those in stream
  int mcus, rows, row;  // MCUs in a row, rows of them, the row at work
  int left;             // MCUs up to the next restart
  int restarts;
  u8* wide[2];
  u16* sums;
  u8* colours[3];
  Codes* used[2 * COMPONENTS];
};

struct Bench {
  Codes slots[SLOTS];
  Lane lanes[MOST_LANES];
};

INLINE i64 ceil_of(i64 value, i64 step) { return (value + step - 1) / step; }

inline Codes* slot_of(Bench& bench, const u8* told, int symbols, int means, int most) {
  for (Codes& codes : bench.slots)
    if (codes.symbols == symbols && codes.means == means && codes.most == most &&
        !__builtin_memcmp(codes.told, told, (u64)(16 + symbols)))
      return &codes;
  for (Codes& codes : bench.slots) {
    if (codes.used) continue;
    __builtin_memcpy(codes.told, told, (u64)(16 + symbols));
    codes.means = means, codes.most = most;
    codes.symbols = -1;
    return codes.make() ? &codes : nullptr;
  }
  return nullptr;
}

inline void leave(Lane& lane) {
  for (Codes*& codes : lane.used) {
    if (codes) --codes->used;
    codes = nullptr;
  }
  lane.job = nullptr;
}

// The most bits of a tail whose value, times the largest step, is within the limit.
inline int most_bits(const Lane& lane, int others) {
  int largest = 1;
  for (int c = 0; c < lane.head.count; ++c)
    if (lane.head.components[c].others == others)
      for (int k = 1; k < 64; ++k) largest = larger(largest, (int)lane.head.steps[lane.head.components[c].steps][k]);
  int bits = MOST_TAIL;
  while (((1 << bits) - 1) * largest >= LIMIT) --bits;
  return bits;
}

inline bool find_codes(Bench& bench, Lane& lane) {
  const Head& head = lane.head;
  for (int c = 0; c < head.count; ++c) {
    for (int kind = 0; kind < 2; ++kind) {
      const int number = kind ? head.components[c].others : head.components[c].means;
      const u8* told = head.codes[kind][number];
      if (!told) return false;
      Codes* codes = slot_of(bench, told, head.symbols[kind][number], !kind, kind ? most_bits(lane, number) : 11);
      if (!codes) return false;
      ++codes->used;
      lane.used[2 * c + kind] = codes;
    }
  }
  return true;
}

// Puts the blocks of a row of MCUs down in the order of the scan.
inline void list_blocks(Lane& lane) {
  Block* block = lane.blocks;
  for (int m = 0; m < lane.mcus; ++m)
    for (int c = 0; c < lane.head.count; ++c) {
      const Plane& plane = lane.planes[c];
      for (int y = 0; y < plane.down; ++y)
        for (int x = 0; x < plane.across; ++x) {
          const int at = m * plane.across + x, group = y * plane.groups + at / GROUP;
          char* const coefs = (char*)(plane.coefs + (i64)group * STRIDE + at % GROUP);
          const u32 *means = lane.used[2 * c]->quick, *others = lane.used[2 * c + 1]->quick;
          *block++ = {coefs, means, others, plane.most + group, c, 0};
        }
    }
  lane.last = block;
}

inline bool lay_out(Lane& lane, Room room) {
  const Head& head = lane.head;
  const int across = head.components[0].across, down = head.components[0].down;
  lane.mcus = (int)ceil_of(head.width, 8 * across), lane.rows = (int)ceil_of(head.height, 8 * down);
  int blocks = 0, groups = 0;
  for (int c = 0; c < head.count; ++c) {
    Plane& plane = lane.planes[c];
    plane.across = head.components[c].across, plane.down = head.components[c].down;
    plane.groups = (int)ceil_of(lane.mcus * plane.across, GROUP);
    plane.pitch = plane.groups * 8 * GROUP;
    blocks += lane.mcus * plane.across * plane.down, groups += plane.groups * plane.down;
  }
  i16* coefs = room.take<i16>((i64)groups * STRIDE);
  u8* most = room.take<u8>(groups);
  lane.blocks = room.take<Block>(blocks);
  lane.stream = room.take<u8>(lane.job->size + (i64)blocks * WORST_BLOCK + 64);
  for (int c = 0; c < head.count; ++c)
    lane.planes[c].rows = room.take<u8>((8 * lane.planes[c].down + 1) * lane.planes[c].pitch + 64);
  const i64 row = lane.planes[0].pitch + 64;
  for (u8*& wide : lane.wide) wide = room.take<u8>(row);
  for (u8*& colour : lane.colours) colour = room.take<u8>(row);
  lane.sums = room.take<u16>(row);
  if (room.left < 0) return false;
  __builtin_memset(coefs, 0, sizeof(i16) * STRIDE * (u64)groups);
  __builtin_memset(most, 0, (u64)groups);
  for (int c = 0; c < head.count; ++c) {
    Plane& plane = lane.planes[c];
    plane.coefs = coefs, plane.most = most;
    coefs += (i64)plane.groups * plane.down * STRIDE, most += plane.groups * plane.down;
    const u8* steps = head.steps[head.components[c].steps];
    for (int k = 0; k < 64; ++k) plane.steps[CONSTANTS.place[k + 1] / (2 * GROUP)] = steps[k];
  }
  list_blocks(lane);
  return true;
}

// Copies coded data without the 0 behind each 255, up to a marker or to where fewer than 65 bytes are left, and moves
// both places on; writes up to 63 bytes more.
INLINE void copy_data(const u8*& from, const u8* end, u8*& to) {
  while (end - from > 64) {
    const u64 found = all_ones(from);
    __builtin_memcpy(to, from, 64);
    const int first = found ? lowest(found) : 64;
    const bool marker = found && from[first + 1];
    from += first, to += first;
    if (marker) return;
    if (found) from += 2, ++to;
  }
}

// Brings the coded data up to the next marker together, without their stuffing; false where there is none.
INLINE bool fill(Lane& lane) {
  const u8* const end = (const u8*)lane.job->data + lane.job->size;
  u8* to = lane.stream;
  copy_data(lane.from, end, to);
  for (;; ++lane.from) {
    if (end - lane.from < 2) return false;
    *to = *lane.from;
    if (*to == 255 && lane.from[1]) break;
    lane.from += *to++ == 255;
  }
  lane.end = (u64)to * 8;
  lane.turn.spot.at = (u64)lane.stream * 8;
  for (int c = 0; c < lane.head.count; ++c) lane.planes[c].mean = 0;
  return true;
}

// Whether all of the data up to a marker were needed, and it is the marker.
INLINE bool at_marker(Lane& lane, int marker) {
  if ((lane.turn.spot.at + 7) / 8 != lane.end / 8 || lane.from[1] != marker) return false;
  lane.from += 2;
  return true;
}

// ---- a row of MCUs ------------------------------------------------------------------------------

// Begins the blocks up to the end of the row or to a restart.
INLINE void begin(Lane& lane, Block* from) {
  const i64 each = (lane.last - lane.blocks) / lane.mcus;
  Turn& turn = lane.turn;
  lane.begin = turn.block = from;
  turn.stop = lane.head.interval ? smaller(lane.last, from + each * lane.left) : lane.last;
  turn.wrong = 0;
  lane.left -= (int)((turn.stop - from) / each);
  open(turn, turn.spot);
}

// Looks at the blocks that were decoded: means become sums, each group learns how full its blocks are.
INLINE bool look(Lane& lane) {
  if (lane.turn.wrong || lane.turn.spot.at > lane.end) return false;
  for (Block* block = lane.begin; block < lane.turn.stop; ++block) {
    Plane& plane = lane.planes[block->component];
    plane.mean += *(i16*)block->coefs;
    const i32 scaled = plane.mean * plane.steps[0];
    if (scaled >= LIMIT || scaled <= -LIMIT) return false;
    *(i16*)block->coefs = (i16)plane.mean;
    if (!block->count) return false;
    *block->most = larger(*block->most, block->count);
  }
  return true;
}

INLINE void fill_means(i16* coefs, const i16* steps, u8* out, i64 pitch) {
  alignas(64) u64 both[GROUP];
  for (int b = 0; b < GROUP; ++b) {
    const i32 mean = ((coefs[b] * (i32)steps[0] + 4) >> 3) + 128;
    both[b] = (u64)clamped(mean) * 0x0101010101010101ull;
    coefs[b] = 0;
  }
  for (int row = 0; row < 8; ++row) __builtin_memcpy(out + row * pitch, both, sizeof both);
}

// Coefficients in zigzag order fill a triangle.
INLINE bool transform_any(int most, i16* coefs, const i16* steps, u8* out, i64 pitch) {
  if (most <= 1) return fill_means(coefs, steps, out, pitch), true;
  if (most <= 10) return transform<4>(coefs, steps, out, pitch);
  return transform<8>(coefs, steps, out, pitch);
}

INLINE bool transform_row(Plane& plane) {
  for (int y = 0; y < plane.down; ++y)
    for (int g = 0; g < plane.groups; ++g) {
      const int at = y * plane.groups + g;
      u8* const out = plane.rows + (1 + 8 * y) * plane.pitch + g * 8 * GROUP;
      if (!transform_any(plane.most[at], plane.coefs + (i64)at * STRIDE, plane.steps, out, plane.pitch)) return false;
      plane.most[at] = 0;
    }
  return true;
}

// The samples of a component for row y of the picture, which is row `local` of those at work.
INLINE const u8* samples(Lane& lane, int c, int y) {
  const Plane &luma = lane.planes[0], &plane = lane.planes[c];
  const int first = 8 * luma.down * lane.row, width = (int)ceil_of(lane.head.width, luma.across);
  if (c == 0) return plane.rows + (y - first + 1) * plane.pitch;
  const int down = luma.down, own = y / down, above = 8 * lane.row - 1;  // of row 0 in `rows`
  const u8* const near = plane.rows + (own - above) * plane.pitch;
  if (luma.across == 1) return near;
  u8* const wide = lane.wide[c - 1];
  if (width <= 2)
    repeat(near, width, wide);
  else if (down == 1)
    widen(near, width, wide);
  else {
    const int last = (int)ceil_of(lane.head.height, 2) - 1;
    const int other = smaller(larger(y % 2 ? own + 1 : own - 1, 0), last);
    widen(near, plane.rows + (other - above) * plane.pitch, width, lane.sums, wide);
  }
  return wide;
}

INLINE void paint(Lane& lane) {
  const Head& head = lane.head;
  const JpegDecode& job = *lane.job;
  const int high = 8 * lane.planes[0].down, late = high == 16;  // a row waits for the one below it
  const int first = larger(0, lane.row * high - late);
  const int end = lane.row + 1 == lane.rows ? head.height : (lane.row + 1) * high - late;
  const bool rgb = head.count == 3 && head.is_rgb(job.said_rgb != 0);
  for (int y = first; y < end; ++y) {
    const i64 size = (i64)head.width * head.count;
    u8* const out = (u8*)job.out + y * size;
    bring_near(out + size, size);  // the next row's memory comes while this one is made
    const u8* planes[COMPONENTS];
    for (int c = 0; c < head.count; ++c) planes[c] = samples(lane, c, y);
    if (head.count == 1)
      __builtin_memcpy(out, planes[0], (u64)head.width);
    else if (rgb)
      weave(planes[0], planes[1], planes[2], head.width, out);
    else {
      to_rgb(planes[0], planes[1], planes[2], head.width, lane.colours[0], lane.colours[1], lane.colours[2]);
      weave(lane.colours[0], lane.colours[1], lane.colours[2], head.width, out);
    }
  }
  for (int c = 0; late && c < head.count; ++c) {
    const Plane& plane = lane.planes[c];
    __builtin_memcpy(plane.rows, plane.rows + 8 * plane.down * plane.pitch, (u64)plane.pitch);
  }
}

// ---- streams ------------------------------------------------------------------------------------

INLINE bool start(Bench& bench, Lane& lane, const JpegDecode& job, Room room) {
  Head& head = lane.head;
  __builtin_memset(&head, 0, sizeof head);
  head.adobe = head.shared = -1;
  lane.job = &job;
  if (job.tables_size && !head.read((const u8*)job.tables, job.tables_size, true)) return false;
  if (!head.read((const u8*)job.data, job.size, false)) return false;
  if (head.width != job.width || head.height != job.height || head.count != job.samples) return false;
  for (int c = 0; c < head.count; ++c)
    if (!head.steps[head.components[c].steps]) return false;
  if (!find_codes(bench, lane) || !lay_out(lane, room)) return false;
  lane.from = head.data;
  lane.row = lane.restarts = 0, lane.left = head.interval;
  if (!fill(lane)) return false;
  begin(lane, lane.blocks);
  return true;
}

enum class State { WORKING, DONE, ODD };

// Goes on where a stream waits.
INLINE State go_on(Lane& lane) {
  if (!look(lane)) return State::ODD;
  Block* next = lane.turn.stop;
  if (next == lane.last) {
    for (int c = 0; c < lane.head.count; ++c)
      if (!transform_row(lane.planes[c])) return State::ODD;
    paint(lane);
    if (++lane.row == lane.rows) return at_marker(lane, 0xd9) ? State::DONE : State::ODD;
    next = lane.blocks;
  }
  if (lane.head.interval && !lane.left) {
    if (!at_marker(lane, 0xd0 + lane.restarts++ % 8) || !fill(lane)) return State::ODD;
    lane.left = lane.head.interval;
  }
  begin(lane, next);
  return State::WORKING;
}

// Decodes all of the streams that are at work until one waits.
template <int LANES> INLINE void decode_lanes(Lane* const* lanes) {
  Turn* turns[LANES];
  for (int i = 0; i < LANES; ++i) turns[i] = &lanes[i]->turn;
  decode<LANES>(turns);
}

INLINE void decode_jobs(const JpegDecode* jobs, i64 count, int most) {
  Room all = {(u8*)jobs->scratch, jobs->scratch_size};
  Bench* bench = all.take<Bench>(1);
  if (!bench) return;
  for (Codes& codes : bench->slots) codes.used = 0, codes.symbols = -1;
  Lane* lanes[MOST_LANES];
  Room rooms[MOST_LANES];
  const i64 share = all.left / most & ~(i64)63;
  for (int i = 0; i < most; ++i) {
    lanes[i] = &bench->lanes[i];
    lanes[i]->job = nullptr;
    for (Codes*& codes : lanes[i]->used) codes = nullptr;
    rooms[i] = {all.at + i * share, share};
  }
  i64 next = 0;
  int active = 0;
  for (;;) {
    while (active < most && next < count) {
      // a lane keeps its place in memory: lanes and their rooms are swapped together
      if (start(*bench, *lanes[active], jobs[next], rooms[active]))
        ++active;
      else
        leave(*lanes[active]);
      ++next;
    }
    if (!active) return;
    if (active == 1)
      decode_lanes<1>(lanes);
    else
      decode_lanes<2>(lanes);
    for (int i = active - 1; i >= 0; --i) {
      Lane& lane = *lanes[i];
      if (lane.turn.block != lane.turn.stop) continue;
      const State state = go_on(lane);
      if (state == State::WORKING) continue;
      *(i64*)lane.job->done = state == State::DONE;
      leave(lane);
      --active;
      Lane* const other = lanes[active];
      const Room room = rooms[active];
      lanes[active] = lanes[i], rooms[active] = rooms[i];
      lanes[i] = other, rooms[i] = room;
    }
  }
}

}  // namespace jpegin

// Decodes `count` streams; `done` tells which of them.
EXPORT void jpeg_decode(const JpegDecode* jobs, i64 count) {
  for (i64 i = 0; i < count; ++i) *(i64*)jobs[i].done = 0;
  if (count) jpegin::decode_jobs(jobs, count, (int)smaller(count, (i64)jpegin::MOST_LANES));
}
