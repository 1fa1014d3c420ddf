// How an image is shown: its channels (or its colours), their windows, the position; and the style of that.

import { readGroups } from "./groups.js";

export const BLENDS = ["additive", "screen", "lighten", "multiply"];
export const AUTO = ["min:0.001", "max:0.001"]; // the window of the default look, as a style says it
const HUES = ["#ff00ff", "#00ffff", "#ff8000", "#9060ff", "#a0ff00", "#0090ff", "#ff0080", "#00ff90"];

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
    channels: kind === "channels" ? block.channels.map((entry, at) => channel(entry, at, facts)) : [],
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

/** Return a channel's colour; one without, that the default look leaves out, is told from others. */
function colourOf({ color, active }, index, { channelColors }) {
  const hasOwn = active || channelColors?.[index] || color !== "FFFFFF";
  return hasOwn ? `#${color.toLowerCase()}` : HUES[index % HUES.length];
}

function channel(entry, index, facts) {
  const { start, end, min, max } = entry.window;
  const isGiven = start !== min || end !== max;
  return {
    index,
    name: /^\d+$/.test(entry.label) ? `Channel ${entry.label}` : entry.label,
    colour: colourOf(entry, index, facts),
    palette: null,
    active: entry.active,
    window: isGiven ? [start, end] : null, // null: what `auto` says, `known` once it was counted
    known: isGiven ? [start, end] : null,
    auto: AUTO,
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
  const active = look.channels.filter((entry) => entry.active);
  return { bands: active.map((entry, at) => ({ ...band(look, entry), composite: blendOf(look, at) })) };
}

/** Return the style of all that can be asked for: the default look in its own words too. */
export function fullStyle(look) {
  return styleOf(look) ?? styleOf({ ...look, touched: true }) ?? {};
}

/** Return how an active channel is mixed with those before it: what is multiplied needs one to begin with. */
export const blendOf = ({ composite }, at) => (composite === "multiply" && at === 0 ? "lighten" : composite);

function band(look, entry) {
  const [low, high] = entry.window ?? entry.auto;
  const ramp = entry.palette ?? (entry.inverted ? [entry.colour, "#000000"] : entry.colour);
  return {
    channel: entry.index,
    min: low,
    max: high,
    palette: ramp,
    ...(entry.gamma !== 1 && { gamma: entry.gamma }),
    ...(entry.opacity !== 1 && { opacity: entry.opacity }),
  };
}

export const PRIMARIES = { red: "#ff0000", green: "#00ff00", blue: "#0000ff" };

function toneStyle(look) {
  const { brightness, contrast, gamma, inverted, icc } = look.tone;
  const plain = { ...(icc !== true && { icc }) };
  const isNeutral = !brightness && !contrast && gamma === 1 && !inverted;
  if (isNeutral && look.facts.dtype === "uint8") return icc === true ? null : plain;
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
