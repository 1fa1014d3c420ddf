// OMERO's rendering settings, the `omero` block of OME-NGFF, as the bands of a style.

const MOST = 10_000; // channels

/** Return the block that an object is or has, also of what `omero render info` tells; null for others. */
export function blockOf(given) {
  const block = given?.omero ?? (given?.channels && given.rdefs ? given : null) ?? numbered(given);
  return Array.isArray(block?.channels) ? block : null;
}

/** Return a block of settings whose channels have numbers, from 1 on: those left out are not shown. */
function numbered(given) {
  const numbers = Object.keys(given?.channels ?? {}).map(Number);
  const areNumbers = numbers.every((number) => Number.isInteger(number) && number >= 1 && number <= MOST);
  if (!numbers.length || !areNumbers) return null;
  const all = Array.from({ length: Math.max(...numbers) }, (_, at) => given.channels[at + 1]);
  return {
    channels: all.map((channel) => (channel ? windowed(channel, given.version) : { active: false })),
    rdefs: { model: given.greyscale ? "greyscale" : "color" },
  };
}

/** Return a channel with its window: `start` and `end`, which the first version called `min` and `max`. */
function windowed({ start, end, min, max, ...channel }, version) {
  const [from, to] = version === 2 || start !== undefined ? [start, end] : [min, max];
  return from === undefined || to === undefined ? channel : { ...channel, window: { start: from, end: to } };
}

/** Return the bands that show what a block says: active channels added up, or the first one in white. */
export function bandsOf(block) {
  const active = block.channels.map(band).filter((_, index) => block.channels[index].active ?? true);
  if (block.rdefs?.model !== "greyscale") return active;
  return active.slice(0, 1).map((entry) => ({ ...entry, palette: grey(entry.palette) }));
}

function band({ color = "FFFFFF", window, inverted, family, coefficient = 1 }, channel) {
  const colour = `#${String(color).replace(/^#/, "").slice(0, 6)}`;
  return {
    channel,
    ...(window && { min: window.start, max: window.end }),
    palette: inverted ? [colour, "#000000"] : colour,
    composite: "additive",
    ...(family === "polynomial" && { gamma: coefficient }),
  };
}

const grey = (palette) => (Array.isArray(palette) ? ["#ffffff", "#000000"] : "#ffffff");
