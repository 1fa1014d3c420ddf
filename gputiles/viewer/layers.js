// What is shown, as layers: a new look is laid over the old one, which goes when the new one is whole.
//
// The newest look wins. While one is loading, only the newest of those that come after it is kept; it
// starts when the one before is whole, or has had PATIENCE: then its requests are given up. Tiles that
// have come by then stay until the newest look is whole, so that nothing is ever blank. So the server works
// at one look at a time, whatever is dragged how fast.
import { Live } from "./live.js";
import { makeSource } from "./source.js";

const PATIENCE = 250; // milliseconds
const MOST = 4; // given up looks of which something is seen
const TIMING = "look"; // of the browser's user timing: from the wish for a look to its last tile

export class Layers extends EventTarget {
  #viewer;
  #item;
  #facts;
  #live;
  #loading = null; // {view, asked, source, image, began}
  #next = null; // {view, asked}
  #timer = 0;
  #shown = null;

  constructor(viewer, item, facts) {
    super();
    this.#viewer = viewer;
    this.#item = item;
    this.#facts = facts;
    this.#live = new Live(`item/${encodeURIComponent(item)}/live`);
    viewer.addHandler("zoom", () => this.#anyLevel());
    // the library goes through the levels of what is seen, the finest first
    viewer.addHandler("update-level", ({ tiledImage: { source }, drawArea, level }) =>
      source.see(drawArea, level),
    );
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
      live: isFirst ? null : this.#live,
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
    this.#thin();
    this.dispatchEvent(new Event("added"));
    image.update(true); // asks for its tiles now, not a frame later
  }

  /** The newest look is whole: it is all that stays; or what was shown before, where none of it can be had. */
  #finish(layer) {
    if (layer !== this.#loading) return;
    if (!layer.source.hasFailed() || !this.#shown) this.#shown = layer;
    for (const image of this.#images()) if (image !== this.#shown.image) this.#drop(image);
    this.#loading = null;
    if (layer === this.#shown) this.#free(layer);
    layer.source.slowDown();
    performance.clearMeasures(TIMING);
    performance.measure(TIMING, { start: layer.asked });
    if (this.#next) this.#start();
    else this.dispatchEvent(new Event("settled"));
  }

  /** Drop what was given up, but for the newest looks that something is seen of. */
  #thin() {
    const given = this.#images().filter(
      (image) => image !== this.#shown?.image && image !== this.#loading?.image,
    );
    const kept = given.filter(({ source }) => source.hasSome()).slice(-MOST);
    for (const image of given) if (!kept.includes(image)) this.#drop(image);
  }

  /** Return all layers, the lowest first. */
  #images() {
    const { world } = this.#viewer;
    return Array.from({ length: world.getItemCount() }, (_, at) => world.getItemAt(at));
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
