// OMERO's rendering settings, the `omero` block of OME-NGFF, as the bands of a style.

/** Return the block that an object is or has; null where there is none. */
export function blockOf(given) {
  const block = given?.omero ?? (given?.channels && given.rdefs ? given : null);
  return Array.isArray(block?.channels) ? block : null;
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
