// What is shown, as layers: a new look is laid over the old one, which goes when the new one is whole.
//
// The newest look wins. While one is loading, only the newest of those that come after it is kept; it
// starts when the one before is whole, or has had PATIENCE: then its requests are given up. Tiles that
// have come by then stay until the newest look is whole, so that nothing is ever blank.
import { makeSource } from "./source.js";

const PATIENCE = 250; // milliseconds
const TIMING = "look"; // of the browser's user timing: from the wish for a look to its last tile

export class Layers extends EventTarget {
  #viewer;
  #item;
  #facts;
  #loading = null; // {view, asked, source, image, began}
  #next = null; // {view, asked}
  #timer = 0;
  #shown = null;

  constructor(viewer, item, facts) {
    super();
    this.#viewer = viewer;
    this.#item = item;
    this.#facts = facts;
    viewer.addHandler("zoom", () => this.#anyLevel());
  }

  /** The layer that is whole, null before the first one. */
  get image() {
    return this.#shown?.image ?? null;
  }

  /** Whether what was asked for last is whole. */
  get isSettled() {
    return this.#shown !== null && !this.#loading && !this.#next;
  }

  /** Show a view: {style: text or null, frame}. */
  show(view) {
    const latest = (this.#next ?? this.#loading ?? this.#shown)?.view;
    if (latest && latest.style === view.style && latest.frame === view.frame) return;
    this.#next = { view, asked: performance.now() };
    if (!this.#loading) return this.#start();
    if (this.#timer) return;
    const age = performance.now() - this.#loading.began;
    this.#timer = setTimeout(() => this.#supersede(), Math.max(0, PATIENCE - age));
  }

  #supersede() {
    this.#timer = 0;
    this.#loading?.source.giveUp();
    this.#start();
  }

  #start() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { view, asked } = this.#next;
    this.#next = null;
    const isFirst = this.#shown === null;
    const source = makeSource(this.#item, this.#facts, view, {
      floor: isFirst ? 0 : this.#level(),
      hurry: !isFirst,
    });
    const layer = { view, asked, source, image: null, began: performance.now() };
    this.#loading = layer;
    this.#viewer.addTiledImage({ tileSource: source, success: ({ item }) => this.#watch(layer, item) });
  }

  #watch(layer, image) {
    layer.image = image;
    image.addHandler("fully-loaded-change", ({ fullyLoaded }) => {
      // once this frame is drawn, which the library does before anything else runs
      if (fullyLoaded && layer === this.#loading) queueMicrotask(() => this.#finish(layer));
    });
    this.dispatchEvent(new Event("added"));
    image.update(true); // asks for its tiles now, not a frame later
  }

  /** The newest look is whole: it is all that stays. */
  #finish(layer) {
    if (layer !== this.#loading) return;
    const { world } = this.#viewer;
    for (let at = world.getItemCount() - 1; at >= 0; at--)
      if (world.getItemAt(at) !== layer.image) this.#drop(world.getItemAt(at));
    this.#shown = layer;
    this.#loading = null;
    this.#free(layer);
    layer.source.hurries = false;
    performance.clearMeasures(TIMING);
    performance.measure(TIMING, { start: layer.asked });
    if (this.#next) this.#start();
    else this.dispatchEvent(new Event("settled"));
  }

  #drop(image) {
    image.source.giveUp();
    this.#viewer.world.removeItem(image);
  }

  /** Return the level that the view needs: of a look laid over another, no coarser one is asked for. */
  #level() {
    const top = this.#facts.levels - 1;
    const zoom = this.image.viewportToImageZoom(this.#viewer.viewport.getZoom(true));
    const scale = zoom * OpenSeadragon.pixelDensityRatio; // screen pixels to a pixel of the image
    return Math.min(top, Math.max(0, top - Math.ceil(Math.log2(0.5 / scale))));
  }

  #anyLevel() {
    if (this.#loading?.image) this.#free(this.#loading);
  }

  #free({ source, image }) {
    if (source.minLevel === 0) return;
    source.minLevel = 0;
    image.savedCutOffLevel = source.getClosestLevel();
    image.redraw();
  }
}
