// The whole image, small, with what is seen of it; a press or a drag goes there.
import { tiles } from "./api.js";
import { make } from "./dom.js";
import { queryOf } from "./source.js";

const SIDE = 180; // pixels

export class Overview {
  #viewer;
  #facts;
  #item;
  #picture = make("img", { alt: "", draggable: "false" });
  #frame = make("div", { class: "seen" });

  constructor(viewer, item, facts) {
    [this.#viewer, this.#item, this.#facts] = [viewer, item, facts];
    const scale = SIDE / Math.max(facts.sizeX, facts.sizeY);
    this.element = make("div", { class: "overview", "aria-hidden": "true" }, this.#picture, this.#frame);
    this.element.style.width = `${Math.max(24, Math.round(facts.sizeX * scale))}px`;
    this.element.style.height = `${Math.max(24, Math.round(facts.sizeY * scale))}px`;
    for (const event of ["animation", "open", "resize"]) viewer.addHandler(event, () => this.#draw());
    this.element.addEventListener("pointerdown", (press) => {
      this.element.setPointerCapture(press.pointerId);
      this.#go(press);
      this.element.onpointermove = (move) => this.#go(move);
    });
    this.element.addEventListener("pointerup", () => (this.element.onpointermove = null));
  }

  /** Show a view; the old picture stays until the new one is there. */
  async show(view) {
    const next = new Image();
    next.src = `${tiles(this.#item)}/thumbnail?width=360&height=360&${queryOf(this.#facts, view)}`;
    try {
      await next.decode();
      this.#picture.src = next.src;
    } catch {
      this.#picture.removeAttribute("src"); // the viewer says what is wrong
    }
    this.#draw();
  }

  #draw() {
    const image = this.#viewer.world.getItemAt(0);
    if (!image) return;
    const seen = image.viewportToImageRectangle(this.#viewer.viewport.getBounds(true));
    const { sizeX, sizeY } = this.#facts;
    const [left, right] = [seen.x / sizeX, (seen.x + seen.width) / sizeX].map(limited);
    const [top, bottom] = [seen.y / sizeY, (seen.y + seen.height) / sizeY].map(limited);
    Object.assign(this.#frame.style, {
      left: `${left * 100}%`,
      top: `${top * 100}%`,
      width: `${(right - left) * 100}%`,
      height: `${(bottom - top) * 100}%`,
    });
  }

  #go(event) {
    const { left, top, width, height } = this.element.getBoundingClientRect();
    const image = this.#viewer.world.getItemAt(0);
    const x = limited((event.clientX - left) / width) * this.#facts.sizeX;
    const y = limited((event.clientY - top) / height) * this.#facts.sizeY;
    this.#viewer.viewport.panTo(image.imageToViewportCoordinates(x, y));
  }
}

const limited = (share) => Math.min(1, Math.max(0, share));
