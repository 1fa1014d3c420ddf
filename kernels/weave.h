// Planes side by side: on the host, where the bytes of a vector are put in any order in one instruction.
#pragma once

typedef u8 Bytes __attribute__((vector_size(16)));

INLINE Bytes load_bytes(const u8* from) {
  Bytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

// The bytes of 16 pixels in thirds. A plane has every third byte of each, and in no two of them at the same places: so
// one order of its samples serves all three. `own` are the places that a plane has in the first third; in the next ones
// it has those of the plane before.
struct Weave {
  u8 sample[3][16], own[3][16];
};

constexpr Weave woven_from() {
  Weave weave = {};
  for (int byte = 0; byte < 48; ++byte) weave.sample[byte % 3][byte % 16] = (u8)(byte / 3);
  for (int at = 0; at < 16; ++at) weave.own[at % 3][at] = 255;
  return weave;
}

alignas(64) static constexpr Weave WEAVE = woven_from();

// Three planes side by side in each pixel.
INLINE void weave(const u8* red, const u8* green, const u8* blue, int count, u8* out) {
  const u8* const planes[] = {red, green, blue};
  const Bytes first = load_bytes(WEAVE.own[0]), second = load_bytes(WEAVE.own[1]), third = load_bytes(WEAVE.own[2]);
  int i = 0;
  WITH_AVX2(i = vectors::weave(planes, WEAVE.sample, WEAVE.own, count, out));
  for (; i + 16 <= count; i += 16) {
    Bytes v[3], thirds[3];
    for (int p = 0; p < 3; ++p) v[p] = __builtin_shuffle(load_bytes(planes[p] + i), load_bytes(WEAVE.sample[p]));
    for (int t = 0; t < 3; ++t) thirds[t] = (v[t] & first) | (v[(t + 1) % 3] & second) | (v[(t + 2) % 3] & third);
    __builtin_memcpy(out + 3 * i, thirds, sizeof thirds);
  }
  for (; i < count; ++i) out[3 * i] = red[i], out[3 * i + 1] = green[i], out[3 * i + 2] = blue[i];
}
