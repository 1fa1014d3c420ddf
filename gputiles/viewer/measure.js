// Histograms of channels, counted by the server, and the windows that percentiles mean.
import { ask, tiles } from "./api.js";
import { frameOf, isWhole, placeOf } from "./look.js";

const BINS = 256;
const SIDE = 1024; // pixels: a level of about this size is counted
const AT_ONCE = 8; // channels of a request
const NARROW = 48; // bins: a window of fewer is counted again, finer

/** Histograms of one image: {range, counts, low, high, total}, each counted once for a position. */
export class Measures {
  #item;
  #look;
  #found = new Map();

  constructor(item, look) {
    this.#item = item;
    this.#look = look;
  }

  /** Return what was counted of channels, in their order, null of those that the file lacks. */
  async of(indexes) {
    const frame = frameOf(this.#look);
    const key = (index) => `${frame}/${index}`;
    const missing = indexes.filter((index) => this.#isThere(index) && !this.#found.has(key(index)));
    for (let at = 0; at < missing.length; at += AT_ONCE) {
      const some = missing.slice(at, at + AT_ONCE);
      const counting = this.#count(some, frame);
      some.forEach((index, place) =>
        this.#keep(
          key(index),
          counting.then((all) => all[place]),
        ),
      );
    }
    return Promise.all(indexes.map((index) => this.#found.get(key(index)) ?? null));
  }

  #isThere(index) {
    return !this.#look.facts.missing?.includes(placeOf(this.#look, index).frame);
  }

  #keep(key, promise) {
    this.#found.set(key, promise);
    promise.catch(() => this.#found.delete(key));
  }

  async #count(indexes, frame) {
    const bands = indexes.map((channel) => ({ channel }));
    const counted = await this.#ask(frame, { style: JSON.stringify({ bands }), roundRange: true });
    return Promise.all(counted.map((entry, at) => this.#refine(read(entry), indexes[at])));
  }

  /** Return a histogram counted again where its values lie, if a few far ones take most of its range. */
  async #refine(first, index) {
    const [low, high] = percentiles(first, 0.001).map((value) => (value - first.range[0]) / first.width);
    if (high - low >= NARROW || first.total === 0 || (isWhole(this.#look) && first.width <= 1)) return first;
    const pad = Math.max(1, (high - low) / 2);
    const at = (bin) => first.range[0] + Math.min(Math.max(bin, 0), first.counts.length) * first.width;
    const finer = this.#bins(at(Math.floor(low - pad)), at(Math.ceil(high + pad)));
    const [from, to] = [finer.rangeMin, finer.rangeMax];
    if (to - from >= first.range[1] - first.range[0]) return first;
    const { frame, sample } = placeOf(this.#look, index);
    const areFrames = (this.#look.facts.IndexRange?.IndexC ?? 1) > 1;
    const entry = (await this.#ask(frame, finer))[areFrames ? 0 : sample];
    const below = first.counts.reduce((sum, count, bin) => sum + (at(bin + 1) <= from ? count : 0), 0);
    return { ...read(entry), total: first.total, below };
  }

  /** Return a range in bins; of whole numbers each has equally many. */
  #bins(from, to) {
    if (!isWhole(this.#look)) return { rangeMin: from, rangeMax: to };
    const low = Math.floor(from);
    const step = Math.max(1, Math.ceil((to - low) / BINS));
    const bins = Math.max(1, Math.ceil((to - low) / step));
    return { rangeMin: low, rangeMax: low + bins * step, bins };
  }

  #ask(frame, more) {
    const query = { frame, bins: BINS, width: SIDE, height: SIDE, resample: false, ...more };
    return ask(`${tiles(this.#item)}/histogram?${new URLSearchParams(query)}`);
  }
}

function read(entry) {
  const width = (entry.range[1] - entry.range[0]) / entry.hist.length;
  return {
    range: entry.range,
    counts: entry.hist,
    width,
    low: entry.min,
    high: entry.max,
    total: entry.samples,
    below: 0,
  };
}

/** Return the window that leaves a share of the values out at each end. */
export function percentiles(measure, share) {
  const { counts, total, below, range, width } = measure;
  const find = (rank) => {
    let sum = below;
    for (let bin = 0; bin < counts.length; bin++) {
      if (sum + counts[bin] >= rank && counts[bin])
        return range[0] + (bin + (rank - sum) / counts[bin]) * width;
      sum += counts[bin];
    }
    return range[1];
  };
  const [low, high] = [find(Math.max(share * total, 1e-9)), find((1 - share) * total)];
  return high > low ? [low, high] : [low, low + width];
}
