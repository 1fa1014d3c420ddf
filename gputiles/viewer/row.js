// One channel of the panel.
import { make } from "./dom.js";
import { Histogram } from "./histogram.js";

/** A channel's switch, colour, histogram and settings; `changed` is called after each change. */
export class Row {
  #changed;
  #parts = {};
  #isWhole;

  constructor(entry, { isWhole, changed, solo, auto }) {
    this.entry = entry;
    this.#changed = changed;
    this.#isWhole = isWhole;
    const parts = this.#parts;
    parts.active = make("input", {
      type: "checkbox",
      "aria-label": `Show ${entry.name}`,
      onchange: () => this.#take(),
    });
    parts.colour = make("input", {
      type: "color",
      "aria-label": `Colour of ${entry.name}`,
      oninput: () => this.#paint(),
    });
    parts.value = make("output", { class: "value" });
    parts.solo = make(
      "button",
      { type: "button", "aria-pressed": "false", onclick: () => solo(entry) },
      "Solo",
    );
    const more = make(
      "button",
      { type: "button", "aria-expanded": "false", "aria-label": `Settings of ${entry.name}` },
      "⋯",
    );
    more.onclick = () => this.#open(more);
    const name = make("span", { class: "name", title: entry.name }, entry.name);
    parts.head = make(
      "div",
      { class: "head" },
      parts.active,
      parts.colour,
      name,
      parts.value,
      parts.solo,
      make(
        "button",
        { type: "button", "aria-label": `Auto window of ${entry.name}`, onclick: () => auto([entry]) },
        "Auto",
      ),
      more,
    );
    parts.histogram = new Histogram({
      name: entry.name,
      isWhole,
      onwindow: (window) => this.#window(window),
    });
    parts.settings = this.#settings();
    this.element = make(
      "li",
      { class: "channel", "data-channel": entry.index },
      parts.head,
      parts.histogram.element,
      parts.settings,
    );
    this.refresh();
  }

  /** Show the values under the cursor. */
  set value(value) {
    this.#parts.value.textContent = value === null ? "" : shortly(value);
  }

  /** Take what was counted: a window that was left to the server is known now. */
  set measure(measure) {
    this.#parts.histogram.measure = measure;
    this.refresh();
  }

  /** Show the channel as it is. */
  refresh() {
    const { entry } = this;
    const parts = this.#parts;
    parts.active.checked = entry.active;
    parts.colour.value = entry.colour;
    this.element.classList.toggle("active", entry.active);
    this.element.style.setProperty("--channel", entry.colour);
    const window = entry.window ?? entry.known ?? entry.limits;
    parts.histogram.window = window;
    const focused = document.activeElement;
    [parts.low, parts.high].forEach((input, at) => input !== focused && (input.value = shortly(window[at])));
    parts.gamma.value = Math.log2(entry.gamma);
    parts.gammaText.textContent = entry.gamma.toFixed(2);
    parts.opacity.value = entry.opacity;
    parts.opacityText.textContent = `${Math.round(entry.opacity * 100)} %`;
    parts.inverted.checked = entry.inverted;
  }

  /** Say whether this channel alone is shown. */
  set isSolo(isSolo) {
    this.#parts.solo.setAttribute("aria-pressed", isSolo);
  }

  get needsCounts() {
    return this.entry.active || !this.#parts.settings.hidden;
  }

  #settings() {
    const { entry } = this;
    const parts = this.#parts;
    const end = (word) =>
      make("input", {
        type: "number",
        step: "any",
        "aria-label": `${entry.name}: ${word} value`,
        onchange: () => this.#ends(),
      });
    parts.low = end("least");
    parts.high = end("greatest");
    parts.gamma = make("input", {
      type: "range",
      min: -2,
      max: 2,
      step: 0.05,
      "aria-label": `Gamma of ${entry.name}`,
      oninput: () => this.#take(),
    });
    parts.opacity = make("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.01,
      "aria-label": `Opacity of ${entry.name}`,
      oninput: () => this.#take(),
    });
    parts.gammaText = make("output");
    parts.opacityText = make("output");
    parts.inverted = make("input", { type: "checkbox", onchange: () => this.#take() });
    const line = (name, control, output) =>
      make("div", { class: "line" }, make("span", {}, name), control, output);
    return make(
      "div",
      { class: "settings", hidden: true },
      make("div", { class: "line" }, make("span", {}, "Window"), parts.low, parts.high),
      line("Gamma", parts.gamma, parts.gammaText),
      line("Opacity", parts.opacity, parts.opacityText),
      make("label", { class: "line" }, make("span", {}, "Invert"), parts.inverted),
    );
  }

  #open(button) {
    const { settings } = this.#parts;
    settings.hidden = !settings.hidden;
    button.setAttribute("aria-expanded", !settings.hidden);
    this.element.classList.toggle("open", !settings.hidden);
    this.element.dispatchEvent(new Event("opened", { bubbles: true }));
  }

  #take() {
    const { entry } = this;
    const parts = this.#parts;
    entry.active = parts.active.checked;
    entry.gamma = Number((2 ** Number(parts.gamma.value)).toFixed(3));
    entry.opacity = Number(parts.opacity.value);
    entry.inverted = parts.inverted.checked;
    this.#changed();
  }

  #paint() {
    this.entry.colour = this.#parts.colour.value;
    this.entry.palette = null;
    this.#changed();
  }

  #window(window) {
    this.entry.window = this.entry.known = window;
    this.#changed();
  }

  #ends() {
    const window = [Number(this.#parts.low.value), Number(this.#parts.high.value)];
    if (window[0] < window[1]) this.#window(window);
    else this.refresh();
  }
}

/** Return a number as people read it. */
export function shortly(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}
