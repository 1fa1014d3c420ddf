// The panel of colour images: brightness, contrast, gamma, inversion and the colour profile.
import { make } from "./dom.js";

const SLIDERS = [
  ["brightness", "Brightness", -1, 1, (value) => value, (value) => value],
  ["contrast", "Contrast", -1, 1, (value) => value, (value) => value],
  ["gamma", "Gamma", -2, 2, (value) => Number((2 ** value).toFixed(3)), (gamma) => Math.log2(gamma)],
];

const PROFILE = [
  [true, "applied"],
  ["relative_colorimetric", "relative colorimetric"],
  ["saturation", "saturation"],
  ["absolute_colorimetric", "absolute colorimetric"],
  [false, "not applied"],
];

/** The panel; `changed` is called after each change of the look. */
export class TonePanel {
  #look;
  #inputs = {};
  #outputs = {};
  #changed;

  constructor(look, changed) {
    this.#look = look;
    this.#changed = changed;
    const reset = make("button", { type: "button", onclick: () => this.#reset() }, "Reset");
    this.element = make(
      "section",
      { class: "tone", "aria-label": "Colours" },
      ...SLIDERS.map((slider) => this.#slider(...slider)),
      this.#check("inverted", "Invert"),
      this.#profile(),
      reset,
    );
    this.refresh();
  }

  /** Show the look as it is. */
  refresh() {
    const { tone } = this.#look;
    for (const [key, , , , , back] of SLIDERS) {
      this.#inputs[key].value = back(tone[key]);
      this.#outputs[key].textContent = tone[key].toFixed(2);
    }
    this.#inputs.inverted.checked = tone.inverted;
    this.#inputs.icc.value = String(tone.icc === "perceptual" ? true : tone.icc);
  }

  /** What is done with the file's colour profile, where it has one that matters. */
  #profile() {
    const options = PROFILE.map(([value, words]) => make("option", { value }, words));
    const select = make("select", { "aria-label": "Colour profile" }, ...options);
    select.onchange = () => this.#take("icc", PROFILE.find(([value]) => String(value) === select.value)[0]);
    this.#inputs.icc = select;
    const line = make("div", { class: "line" }, make("span", {}, "ICC profile"), select);
    line.hidden = !this.#look.facts.iccProfile;
    return line;
  }

  #slider(key, name, min, max, read) {
    const input = make("input", { type: "range", min, max, step: 0.01, "aria-label": name });
    input.oninput = () => this.#take(key, read(Number(input.value)));
    this.#inputs[key] = input;
    this.#outputs[key] = make("output");
    return make("div", { class: "line" }, make("span", {}, name), input, this.#outputs[key]);
  }

  #check(key, name) {
    const input = make("input", { type: "checkbox", onchange: () => this.#take(key, input.checked) });
    this.#inputs[key] = input;
    return make("label", { class: "check" }, input, name);
  }

  #take(key, value) {
    Object.assign(this.#look, { touched: true, custom: null });
    this.#look.tone[key] = value;
    this.refresh();
    this.#changed();
  }

  #reset() {
    Object.assign(this.#look, { touched: false, custom: null });
    this.#look.tone = { brightness: 0, contrast: 0, gamma: 1, inverted: false, icc: true };
    this.refresh();
    this.#changed();
  }
}
