// Sliders for the axes of an image: z, t and others.
import { make } from "./dom.js";

const NAMES = { IndexZ: "Z", IndexT: "Time", IndexC: "Channel" };

export class Axes {
  #look;
  #changed;
  #sliders = new Map();

  constructor(look, changed) {
    this.#look = look;
    this.#changed = changed;
    const lines = look.axes.map((axis) => this.#line(axis));
    this.element = make(
      "section",
      { "aria-label": "Position", class: "axes", hidden: !lines.length },
      ...lines,
    );
    this.refresh();
  }

  /** Go along an axis: the first one unless told otherwise; nowhere, where there is no such axis. */
  step(by, axis = this.#look.axes[0] ?? null) {
    if (axis === null) return;
    const last = (this.#look.facts.IndexRange?.[axis] ?? 1) - 1;
    const to = Math.min(last, Math.max(0, this.#look.position[axis] + by));
    if (to === this.#look.position[axis]) return;
    this.#look.position[axis] = to;
    this.refresh();
    this.#changed();
  }

  /** Show the look as it is. */
  refresh() {
    for (const [axis, { input, output }] of this.#sliders) {
      input.value = this.#look.position[axis];
      output.textContent = `${this.#look.position[axis] + 1} / ${this.#look.facts.IndexRange[axis]}`;
    }
  }

  #line(axis) {
    const name = NAMES[axis] ?? axis.replace(/^Index/, "");
    const input = make("input", {
      type: "range",
      min: 0,
      max: this.#look.facts.IndexRange[axis] - 1,
      step: 1,
      "aria-label": name,
      "data-axis": axis,
    });
    input.oninput = () => this.step(Number(input.value) - this.#look.position[axis], axis);
    const output = make("output");
    this.#sliders.set(axis, { input, output });
    return make("div", { class: "line" }, make("span", {}, name), input, output);
  }
}
