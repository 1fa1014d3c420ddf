// The place under the cursor, and the values that the image has there.
import { ask, tiles } from "./api.js";
import { shortly } from "./row.js";
import { placeOf, frameOf } from "./look.js";

const MOST = 64; // channels whose values are asked for at once

/** Follow the cursor over a viewer; `tell` gets the channels' values, null where there are none. */
export class Readout {
  #viewer;
  #item;
  #look;
  #layers;
  #place;
  #values;
  #tell;
  #point = null;
  #isAsking = false;

  constructor(viewer, layers, item, look, { place, values, tell }) {
    [this.#viewer, this.#layers, this.#item, this.#look] = [viewer, layers, item, look];
    [this.#place, this.#values, this.#tell] = [place, values, tell];
    viewer.canvas.addEventListener("pointermove", (event) => this.#follow(event));
    viewer.canvas.addEventListener("pointerleave", () => this.#show(null));
  }

  #follow(event) {
    const image = this.#layers.image;
    if (!image) return;
    const { left, top } = this.#viewer.canvas.getBoundingClientRect();
    const pixel = new OpenSeadragon.Point(event.clientX - left, event.clientY - top);
    const { x, y } = image.viewerElementToImageCoordinates(pixel);
    const { sizeX, sizeY } = this.#look.facts;
    this.#show(x >= 0 && y >= 0 && x < sizeX && y < sizeY ? { x: Math.floor(x), y: Math.floor(y) } : null);
  }

  #show(point) {
    if (point?.x === this.#point?.x && point?.y === this.#point?.y) return;
    this.#point = point;
    this.#place.textContent = point ? this.#words(point) : "";
    if (!point) this.#clear();
    else if (!this.#isAsking) void this.#read();
  }

  #clear() {
    this.#values.textContent = "";
    this.#tell(null);
  }

  #words({ x, y }) {
    const { mm_x: across, mm_y: down } = this.#look.facts;
    const micrometres =
      across && down ? `  ·  ${(x * across * 1000).toFixed(1)}, ${(y * down * 1000).toFixed(1)} µm` : "";
    return `${x}, ${y} px${micrometres}`;
  }

  /** Ask for the values of the newest place, one request at a time. */
  async #read() {
    this.#isAsking = true;
    try {
      for (let told = null; this.#point && told !== this.#point;) {
        const point = this.#point;
        const values = await this.#ask(point);
        if (this.#point) this.#say(values);
        told = point;
      }
    } catch (error) {
      this.#values.textContent = error.message;
    } finally {
      this.#isAsking = false;
    }
  }

  async #ask({ x, y }) {
    const shown = this.#look.channels.filter((entry) => entry.active).slice(0, MOST);
    const places = shown.map((entry) => placeOf(this.#look, entry.index));
    const frames = [...new Set(shown.length ? places.map((place) => place.frame) : [frameOf(this.#look)])];
    const query = new URLSearchParams({ left: x, top: y, frameList: frames.join() });
    const found = new Map(
      (await ask(`${tiles(this.#item)}/pixel?${query}`)).map((entry) => [entry.frame, entry.value]),
    );
    if (!shown.length) return { plain: found.get(frames[0]) };
    return {
      channels: new Map(
        shown.map((entry, at) => [entry.index, found.get(places[at].frame)?.[places[at].sample]]),
      ),
    };
  }

  #say({ plain, channels }) {
    this.#tell(channels ?? null);
    const names = this.#look.channels;
    const parts = channels
      ? [...channels]
          .slice(0, 8)
          .map(
            ([index, value]) => `${names[index].name} ${value === undefined ? "–" : shortly(value ?? NaN)}`,
          )
      : [plain?.map((value) => shortly(value ?? NaN)).join(", ") ?? ""];
    this.#values.textContent = parts.join("   ");
  }
}
