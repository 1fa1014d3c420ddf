// Planes side by side: on the host, where the bytes of a vector are put in any order in one instruction.
#pragma once

typedef u8 Bytes __attribute__((vector_size(16)));

INLINE Bytes load_bytes(const u8* from) {
  Bytes bytes;
  __builtin_memcpy(&bytes, from, sizeof bytes);
  return bytes;
}

// Which samples of 16 pixels a third of their bytes needs, and which of the planes each byte is of.
struct Weave {
  u8 sample[3][16], plane[3][3][16];
};

constexpr Weave woven_from() {
  Weave weave = {};
  for (int third = 0; third < 3; ++third)
    for (int at = 0; at < 16; ++at) {
      const int byte = 16 * third + at;
      weave.sample[third][at] = (u8)(byte / 3);
      for (int p = 0; p < 3; ++p) weave.plane[third][p][at] = byte % 3 == p ? 255 : 0;
    }
  return weave;
}

alignas(64) static constexpr Weave WEAVE = woven_from();

// A third of the bytes of 16 pixels.
INLINE Bytes woven(Bytes red, Bytes green, Bytes blue, int third) {
  const Bytes sample = load_bytes(WEAVE.sample[third]);
  return (__builtin_shuffle(red, sample) & load_bytes(WEAVE.plane[third][0])) |
         (__builtin_shuffle(green, sample) & load_bytes(WEAVE.plane[third][1])) |
         (__builtin_shuffle(blue, sample) & load_bytes(WEAVE.plane[third][2]));
}

// Three planes side by side in each pixel.
INLINE void weave(const u8* red, const u8* green, const u8* blue, int count, u8* out) {
  int i = 0;
  for (; i + 16 <= count; i += 16) {
    const Bytes r = load_bytes(red + i), g = load_bytes(green + i), b = load_bytes(blue + i);
    for (int third = 0; third < 3; ++third) {
      const Bytes bytes = woven(r, g, b, third);
      __builtin_memcpy(out + 3 * i + 16 * third, &bytes, sizeof bytes);
    }
  }
  for (; i < count; ++i) out[3 * i] = red[i], out[3 * i + 1] = green[i], out[3 * i + 2] = blue[i];
}
