// Styles of links, presets and other programs, as a look of the panels' words.
import { AUTO, blendOf, frameOf, placeOf, PRIMARIES } from "./look.js";
import { bandsOf, blockOf } from "./omero.js";

// What the panels have words for.
const OF_STYLES = ["bands"];
const OF_CHANNELS = [
  ...["channel", "band", "frame", "framedelta", "min", "max", "autoRange"],
  ...["palette", "composite", "gamma", "opacity"],
];
const OF_TONES = ["band", "min", "max", "palette", "composite", "gamma"];

/** Make the look that of a style for a frame, if there is one; what the panel cannot say is kept as it is. */
export function readStyle(look, style, number) {
  const frame = look.facts.frames?.[number] ? number : frameOf(look);
  look.touched = true;
  look.custom = null;
  const block = blockOf(style);
  const bands = block ? bandsOf(block) : style?.bands;
  const isPlain = block || isSaidWith(look.kind === "colour" ? [...OF_STYLES, "icc"] : OF_STYLES, style);
  const ways = { channels: () => readChannels(look, bands, frame), colour: () => readTone(look, style) };
  const isRead = isPlain && ways[look.kind]?.();
  const by = frame - frameOf(look);
  if (!isRead) look.custom = by && !block ? rebased(style, by) : style;
}

const isSaidWith = (words, object) => Object.keys(object).every((key) => words.includes(key));

function readChannels(look, bands, frame) {
  if (!Array.isArray(bands) || !bands.every((entry) => isSaidWith(OF_CHANNELS, entry))) return false;
  const found = bands.map((entry) => channelOf(look, entry, frame));
  const blends = bands.map((entry) => entry.composite ?? "lighten");
  const composite = blends.at(-1) ?? look.composite;
  if (blends.some((blend, at) => blend !== blendOf({ composite }, at))) return false;
  if (found.some((entry) => !entry) || new Set(found).size < found.length) return false;
  const windows = bands.map(windowOf);
  if (windows.some((window) => window === undefined)) return false;
  look.composite = composite;
  for (const entry of look.channels) entry.active = false;
  found.forEach((entry, at) => readBand(entry, bands[at], windows[at]));
  return true;
}

/** Return the channel that an entry of `bands` means, as our server and large_image say it. */
function channelOf(look, entry, base) {
  if (typeof entry.channel === "string")
    return look.channels.find((each) => each.name === entry.channel) ?? look.channels[Number(entry.channel)];
  if (entry.channel !== undefined) return look.channels[entry.channel];
  const areFrames = (look.facts.IndexRange?.IndexC ?? 1) > 1;
  if (!areFrames) return look.channels[(entry.band ?? 1) - 1];
  const frame = entry.frame ?? (entry.framedelta ?? 0) + base;
  const found = look.channels[look.facts.frames?.[frame]?.IndexC];
  return found && placeOf(look, found.index).frame === frame ? found : undefined; // or of another z, or time
}

/** Return a style for a frame as one for another, `by` frames before it. */
function rebased(style, by) {
  const isFixed = (entry) => (entry.frame ?? entry.channel) !== undefined;
  const moved = (entry) => (isFixed(entry) ? entry : { ...entry, framedelta: (entry.framedelta ?? 0) + by });
  return style.bands ? { ...style, bands: style.bands.map(moved) } : moved(style);
}

/** Return the window of an entry: two numbers, null for one that is left to the server, undefined for others. */
function windowOf(entry) {
  const ends = endsOf(entry);
  const numbers = ends.map(Number);
  if (numbers.every(Number.isFinite)) return numbers;
  return ends.every((end) => /^(auto|min|max|full)(:|$)/.test(end)) ? null : undefined;
}

/** Return the ends of a window as a style says them; large_image's presets leave percents out. */
function endsOf({ min = "auto", max = "auto", autoRange }) {
  return autoRange === undefined ? [min, max] : [`min:${autoRange / 100}`, `max:${autoRange / 100}`];
}

function readBand(entry, band, window) {
  const ramp = band.palette ?? "#ffffff";
  const colours = (Array.isArray(ramp) ? ramp : ["#000000", ramp]).map(sixDigits);
  const isRamp = colours.length === 2 && colours.every(Boolean) && colours.includes("#000000");
  entry.active = true;
  entry.window = window;
  entry.auto = window ? AUTO : endsOf(band);
  entry.known = window;
  entry.gamma = band.gamma ?? 1;
  entry.opacity = band.opacity ?? 1;
  entry.inverted = isRamp && colours[1] === "#000000" && colours[0] !== "#000000";
  entry.palette = isRamp ? null : ramp;
  entry.colour = (isRamp && colours[entry.inverted ? 0 : 1]) || colours.findLast(Boolean) || "#ffffff";
}

function sixDigits(colour) {
  const digits = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(colour)?.[1].toLowerCase();
  if (!digits) return null;
  return `#${digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits}`;
}

function readTone(look, style) {
  const bands = style.bands?.filter((entry) => entry.band !== "alpha");
  const neutral = { brightness: 0, contrast: 0, gamma: 1, inverted: false, icc: style.icc ?? true };
  if (bands === undefined) {
    look.tone = neutral;
    return true;
  }
  const window = bands.length === 3 && windowOf(bands[0]);
  if (!window) return false;
  const [gamma, inverted] = [bands[0].gamma ?? 1, Array.isArray(bands[0].palette)];
  if (!bands.every((entry, at) => isTone(entry, at, { window, gamma, inverted }))) return false;
  look.tone = { ...neutral, ...toneOf(window, look.base), gamma, inverted };
  return true;
}

/** Say whether a band is that of a tone, as it is written. */
function isTone(entry, at, { window, gamma, inverted }) {
  const [name, colour] = Object.entries(PRIMARIES)[at];
  const ramp = inverted ? `${colour},#000000` : colour;
  return (
    isSaidWith(OF_TONES, entry) &&
    entry.band === name &&
    String(entry.palette) === ramp &&
    entry.composite === "additive" &&
    (entry.gamma ?? 1) === gamma &&
    windowOf(entry)?.join() === window.join()
  );
}

/** Take brightness and contrast back from a window. */
function toneOf([low, high], [from, to]) {
  const contrast = -Math.log((high - low) / (to - from)) / Math.log(4);
  const brightness = ((from + to) / 2 - (low + high) / 2) / (to - from);
  return { brightness: rounded(brightness), contrast: rounded(contrast) };
}

const rounded = (value) => Math.round(value * 1000) / 1000;
