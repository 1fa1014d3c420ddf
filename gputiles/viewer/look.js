// How an image is shown: its channels (or its colours), their windows, the position; and the style of that.

import { readGroups } from "./groups.js";
import { bandsOf, blockOf } from "./omero.js";

export const BLENDS = ["additive", "screen", "lighten", "multiply"];
const SHARE = 0.001; // what the default look leaves out at each end

/** Return the look that an image's metadata describe. */
export function lookOf(facts) {
  const range = facts.IndexRange ?? {};
  const several = (range.IndexC ?? 1) > 1;
  const block = facts.omero;
  const isColour =
    facts.bandCount >= 3 && !several && block?.channels.length === 3 && block.rdefs.model === "color";
  const kind = !block ? "stored" : isColour && isRgb(block) ? "colour" : "channels";
  const axes = Object.keys(range).filter(
    (name) => range[name] > 1 && !(name === "IndexC" && kind === "channels"),
  );
  return {
    facts,
    kind,
    axes,
    channels: kind === "channels" ? block.channels.map(channel) : [],
    groups: kind === "channels" ? readGroups(facts.channelGroups, block.channels.length) : [],
    tone: { brightness: 0, contrast: 0, gamma: 1, inverted: false, icc: true },
    base: block ? wholeWindow(block) : [0, 255],
    composite: "additive",
    position: Object.fromEntries(Object.keys(range).map((name) => [name, 0])),
    touched: false, // the default look holds until somebody changes something
    custom: null, // a style that the panel has no words for
  };
}

const isRgb = (block) => block.channels.map((entry) => entry.color).join() === "FF0000,00FF00,0000FF";

function wholeWindow(block) {
  const windows = block.channels.map((entry) => entry.window);
  return [Math.min(...windows.map((each) => each.start)), Math.max(...windows.map((each) => each.end))];
}

function channel(entry, index) {
  const { start, end, min, max } = entry.window;
  const isGiven = start !== min || end !== max;
  return {
    index,
    name: entry.label,
    colour: `#${entry.color.toLowerCase()}`,
    palette: null,
    active: entry.active,
    window: isGiven ? [start, end] : null, // null: the server's percentiles, `known` once they were counted
    known: isGiven ? [start, end] : null,
    limits: [min, max],
    gamma: 1,
    opacity: 1,
    inverted: entry.inverted,
  };
}

/** Say whether an image's values are whole numbers. */
export const isWhole = (look) => !look.facts.dtype.startsWith("float");

/** Return the number of the frame at the look's position. */
export function frameOf(look) {
  const strides = look.facts.IndexStride ?? {};
  return Object.entries(look.position).reduce((sum, [axis, at]) => sum + at * (strides[axis] ?? 0), 0);
}

/** Put the look at the position of a frame; channels of their own are no part of it. */
export function moveTo(look, frame) {
  const entry = look.facts.frames?.[frame];
  if (!entry) return;
  for (const axis of Object.keys(look.position))
    look.position[axis] = look.axes.includes(axis) ? (entry[axis] ?? 0) : 0;
}

/** Return the (frame, sample) whose values a channel shows at the look's position. */
export function placeOf(look, index) {
  const stride = look.facts.IndexStride?.IndexC;
  const areFrames = (look.facts.IndexRange?.IndexC ?? 1) > 1;
  return areFrames
    ? { frame: frameOf(look) + index * stride, sample: 0 }
    : { frame: frameOf(look), sample: index };
}

/** Return the style of a look, null for the default one. */
export function styleOf(look) {
  if (look.custom) return look.custom;
  if (look.kind === "stored" || (!look.touched && frameOf(look) === 0)) return null;
  if (look.kind === "colour") return toneStyle(look);
  return { bands: look.channels.filter((entry) => entry.active).map((entry) => band(look, entry)) };
}

/** Return the style of all that can be asked for: the default look in its own words too. */
export function fullStyle(look) {
  return styleOf(look) ?? styleOf({ ...look, touched: true }) ?? {};
}

function band(look, entry) {
  const [low, high] = entry.window ?? [`min:${SHARE}`, `max:${SHARE}`];
  const ramp = entry.palette ?? (entry.inverted ? [entry.colour, "#000000"] : entry.colour);
  return {
    channel: entry.index,
    min: low,
    max: high,
    palette: ramp,
    composite: look.composite,
    ...(entry.gamma !== 1 && { gamma: entry.gamma }),
    ...(entry.opacity !== 1 && { opacity: entry.opacity }),
  };
}

const PRIMARIES = { red: "#ff0000", green: "#00ff00", blue: "#0000ff" };

function toneStyle(look) {
  const { brightness, contrast, gamma, inverted, icc } = look.tone;
  const plain = { ...(!icc && { icc }) };
  const isNeutral = !brightness && !contrast && gamma === 1 && !inverted;
  if (isNeutral && look.facts.dtype === "uint8") return icc ? null : plain;
  const [low, high] = toneWindow(look);
  const bands = Object.entries(PRIMARIES).map(([name, colour]) => ({
    band: name,
    min: low,
    max: high,
    palette: inverted ? [colour, "#000000"] : colour,
    composite: "additive",
    ...(gamma !== 1 && { gamma }),
  }));
  return { bands: look.facts.bandCount > 3 ? [...bands, { band: "alpha" }] : bands, ...plain };
}

/** Return the window of brightness and contrast (each -1 … 1): shifted, and 4 times as narrow at most. */
function toneWindow({ base: [low, high], tone: { brightness, contrast } }) {
  const width = (high - low) * 4 ** -contrast;
  const middle = (low + high) / 2 - brightness * (high - low);
  return [middle - width / 2, middle + width / 2];
}

/** Take brightness and contrast back from a window. */
function toneOf([low, high], [from, to]) {
  const contrast = -Math.log((high - low) / (to - from)) / Math.log(4);
  const brightness = ((from + to) / 2 - (low + high) / 2) / (to - from);
  return { brightness: rounded(brightness), contrast: rounded(contrast) };
}

const rounded = (value) => Math.round(value * 1000) / 1000;

/** Make the look that of a style; what the panel cannot say is kept as it is. */
export function readStyle(look, style) {
  look.touched = true;
  look.custom = null;
  const block = blockOf(style);
  const bands = block ? bandsOf(block) : style?.bands;
  const isRead =
    look.kind === "channels" ? readChannels(look, bands) : look.kind === "colour" && readTone(look, style);
  if (!isRead) look.custom = style;
}

function readChannels(look, bands) {
  if (!Array.isArray(bands)) return false;
  const found = bands.map((entry) => channelOf(look, entry));
  const blends = new Set(bands.map((entry) => entry.composite ?? "lighten"));
  if (found.some((entry) => !entry) || new Set(found).size < found.length || blends.size > 1) return false;
  const windows = bands.map(windowOf);
  if (windows.some((window) => window === undefined)) return false;
  look.composite = blends.values().next().value ?? look.composite;
  for (const entry of look.channels) entry.active = false;
  found.forEach((entry, at) => readBand(entry, bands[at], windows[at]));
  return true;
}

/** Return the channel that an entry of `bands` means, as our server and large_image say it. */
function channelOf(look, entry) {
  if (typeof entry.channel === "string")
    return look.channels.find((each) => each.name === entry.channel) ?? look.channels[Number(entry.channel)];
  if (entry.channel !== undefined) return look.channels[entry.channel];
  const areFrames = (look.facts.IndexRange?.IndexC ?? 1) > 1;
  if (!areFrames) return look.channels[(entry.band ?? 1) - 1];
  const frame = entry.frame ?? (entry.framedelta ?? 0) + frameOf(look);
  return look.channels[look.facts.frames?.[frame]?.IndexC];
}

/** Return the window of an entry: two numbers, null for percentiles, undefined where it is another thing. */
function windowOf(entry) {
  if (entry.autoRange !== undefined) return null;
  const ends = [entry.min ?? "auto", entry.max ?? "auto"];
  const numbers = ends.map(Number);
  if (numbers.every(Number.isFinite)) return numbers;
  return ends.every((end) => /^(auto|min|max)/.test(end)) ? null : undefined;
}

function readBand(entry, band, window) {
  const ramp = band.palette ?? "#ffffff";
  const colours = (Array.isArray(ramp) ? ramp : ["#000000", ramp]).map(sixDigits);
  const isRamp = colours.length === 2 && colours.every(Boolean) && colours.includes("#000000");
  entry.active = true;
  entry.window = window;
  if (window) entry.known = window;
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
  const bands = style.bands;
  const neutral = { brightness: 0, contrast: 0, gamma: 1, inverted: false, icc: style.icc !== false };
  if (bands === undefined) {
    look.tone = neutral;
    return Object.keys(style).every((key) => key === "icc");
  }
  const colours = bands.filter((entry) => entry.band in PRIMARIES);
  const window = colours.length === 3 && windowOf(colours[0]);
  if (!window || colours.some((entry) => windowOf(entry)?.join() !== window.join())) return false;
  const inverted = Array.isArray(colours[0].palette);
  look.tone = { ...neutral, ...toneOf(window, look.base), gamma: colours[0].gamma ?? 1, inverted };
  return true;
}
