// Tiles of one request, which come as they are ready, in any order.

/** Yield the parts of a batch: three little-endian words (place, status, length), and so many bytes. */
export async function* pieces(stream) {
  const reader = stream.getReader();
  let held = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
    for (;;) {
      if (held.length < 12) break;
      const head = new DataView(held.buffer, held.byteOffset, 12);
      const length = head.getUint32(8, true);
      if (held.length < 12 + length) break;
      yield {
        place: head.getUint32(0, true),
        status: head.getUint32(4, true),
        data: held.slice(12, 12 + length),
      };
      held = held.subarray(12 + length);
    }
  }
}
