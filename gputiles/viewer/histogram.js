// A histogram with a window over it: its ends and its middle are dragged, or moved with the keyboard.
import { make } from "./dom.js";

const STEPS = 256; // of the keyboard over the whole width

/** The picture of a channel's values. `onwindow` gets every new window while it is dragged. */
export class Histogram {
  #domain = [0, 1];
  #window = [0, 1];
  #isWhole;
  #onwindow;
  #path;
  #shade;
  #ends;

  constructor({ name, isWhole, onwindow }) {
    this.#isWhole = isWhole;
    this.#onwindow = onwindow;
    this.#path = svg("path", { class: "counts" });
    const picture = svg("svg", {
      viewBox: "0 0 256 100",
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    picture.append(this.#path);
    this.#shade = make("div", { class: "window" });
    this.#ends = ["minimum", "maximum"].map((word, end) =>
      make("div", {
        class: `end ${word}`,
        role: "slider",
        tabindex: "0",
        "aria-label": `${name}: ${word}`,
        onkeydown: (event) => this.#key(event, end),
      }),
    );
    this.element = make("div", { class: "histogram" }, picture, this.#shade, ...this.#ends);
    this.element.addEventListener("pointerdown", (event) => this.#press(event));
  }

  /** Draw what was counted: null is nothing yet. */
  set measure(measure) {
    const counts = measure?.counts ?? [];
    const most = Math.log1p(Math.max(1, ...counts));
    const width = 256 / Math.max(1, counts.length);
    const tops = counts.map((count, bin) => {
      const y = (100 - (96 * Math.log1p(count)) / most).toFixed(1);
      return `L${(bin * width).toFixed(1)} ${y}L${((bin + 1) * width).toFixed(1)} ${y}`;
    });
    this.#path.setAttribute("d", counts.length ? `M0 100${tops.join("")}L256 100Z` : "");
    if (measure) this.#domain = [...measure.range];
    this.#place();
  }

  /** Set what is shown between black and the full colour. */
  set window(window) {
    this.#window = [...window];
    this.#place();
  }

  #place() {
    const [from, to] = this.#domain;
    const shares = this.#window.map((value) => Math.min(1, Math.max(0, (value - from) / (to - from || 1))));
    this.#shade.style.left = `${shares[0] * 100}%`;
    this.#shade.style.width = `${(shares[1] - shares[0]) * 100}%`;
    this.#ends.forEach((end, at) => {
      end.style.left = `${shares[at] * 100}%`;
      end.setAttribute("aria-valuemin", from);
      end.setAttribute("aria-valuemax", to);
      end.setAttribute("aria-valuenow", this.#window[at]);
    });
  }

  #key(event, end) {
    const [from, to] = this.#domain;
    const step = Math.max((to - from) / STEPS, this.#isWhole ? 1 : 0) * (event.shiftKey ? 10 : 1);
    const moves = {
      ArrowLeft: -step,
      ArrowDown: -step,
      ArrowRight: step,
      ArrowUp: step,
      PageDown: -10 * step,
      PageUp: 10 * step,
    };
    const value = { Home: from, End: to }[event.key] ?? this.#window[end] + moves[event.key];
    if (!Number.isFinite(value)) return;
    event.preventDefault();
    event.stopPropagation();
    this.#move(end, value);
  }

  /** Take the end that was pressed, or the nearer one; the middle moves both. */
  #press(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const start = this.#value(event);
    const before = [...this.#window];
    const part = this.#part(event, start);
    if (part < 2) this.#ends[part].focus();
    this.element.setPointerCapture(event.pointerId);
    const drag = (move) => {
      const to = this.#value(move);
      if (part < 2) this.#move(part, to);
      else this.#set(before.map((value) => value + to - start));
    };
    if (part < 2 && !this.#ends.includes(event.target)) drag(event);
    this.element.onpointermove = drag;
    this.element.onpointerup = this.element.onpointercancel = () => (this.element.onpointermove = null);
  }

  #part(event, value) {
    const end = this.#ends.indexOf(event.target);
    if (end >= 0) return end;
    const [low, high] = this.#window;
    if (value > low && value < high) return 2;
    return value <= low ? 0 : 1;
  }

  #value(event) {
    const { left, width } = this.element.getBoundingClientRect();
    const [from, to] = this.#domain;
    return from + ((event.clientX - left) / width) * (to - from);
  }

  #move(end, value) {
    const window = [...this.#window];
    const least = this.#isWhole ? 1 : (this.#domain[1] - this.#domain[0]) / 1e6;
    window[end] = end ? Math.max(value, window[0] + least) : Math.min(value, window[1] - least);
    this.#set(window);
  }

  #set(window) {
    this.window = window.map((value) => (this.#isWhole ? Math.round(value) : Number(value.toPrecision(6))));
    this.#onwindow([...this.#window]);
  }
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
