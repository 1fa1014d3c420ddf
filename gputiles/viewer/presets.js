// Named views on the server: saved, chosen, deleted, taken from a file and given as one; and those of the folder.
import { ask } from "./api.js";
import { make } from "./dom.js";
import { LONGEST, readGroups } from "./groups.js";
import { AUTO, frameOf, fullStyle, moveTo } from "./look.js";
import { readStyle } from "./reading.js";

const MODES = {
  channels: { id: 2, name: "Channel Compositing" },
  colour: { id: 3, name: "Band Compositing" },
};

/** The section of presets; `applied` is called when one was chosen, `say` gets what went wrong. */
export class Presets {
  #path;
  #look;
  #applied;
  #say;
  #list = make("ul", { class: "presets" });
  #name = make("input", {
    type: "text",
    maxlength: LONGEST,
    placeholder: "Name of a preset",
    "aria-label": "Name of a preset",
  });

  constructor(item, look, applied, say) {
    this.#path = `item/${encodeURIComponent(item)}/presets`;
    [this.#look, this.#applied, this.#say] = [look, applied, say];
    const file = make("input", {
      type: "file",
      accept: ".json,.yaml,.yml,application/json,application/yaml",
      class: "hidden",
      "aria-label": "File of presets",
    });
    file.onchange = () => this.#try(() => this.#import(file));
    const save = make("form", { class: "line" }, this.#name, make("button", {}, "Save"));
    save.onsubmit = (event) => {
      event.preventDefault();
      void this.#try(() => this.#save());
    };
    const load = make("button", { type: "button", onclick: () => file.click() }, "Import");
    const give = make("button", { type: "button", onclick: () => this.#try(() => this.#export()) }, "Export");
    const files = make("div", { class: "line" }, load, give, file);
    const box = make("details", { class: "fold" }, make("summary", {}, "Presets"), this.#list, save, files);
    box.ontoggle = () => box.open && this.#try(() => this.#show());
    this.element = box;
  }

  async #try(work) {
    this.#say(""); // not at the end: something newer may be said by then
    try {
      await work();
    } catch (error) {
      this.#say(error.message);
    }
  }

  async #show() {
    const presets = await ask(this.#path);
    const none = make("li", { class: "muted" }, "Nothing is saved yet.");
    this.#list.replaceChildren(...(presets.length ? presets.map((preset) => this.#entry(preset)) : [none]));
  }

  #entry(preset) {
    const choose = make(
      "button",
      { type: "button", class: "name", onclick: () => this.#choose(preset) },
      preset.name,
    );
    if (preset.file === undefined) return make("li", { class: "line" }, choose, this.#drop(preset));
    const origin = make("span", { class: "muted", title: preset.file }, "of the folder");
    return make("li", { class: "line" }, choose, origin);
  }

  #drop(preset) {
    const drop = () => this.#try(() => this.#delete(preset));
    return make(
      "button",
      { type: "button", "aria-label": `Delete ${preset.name}`, onclick: drop },
      "Delete",
    );
  }

  #choose(preset) {
    this.take(preset);
    this.#applied();
  }

  /** Make the look that of a preset. */
  take({ frame = 0, mode, style, groups }) {
    moveTo(this.#look, frame);
    if (groups) this.#look.groups = readGroups(groups, this.#look.channels.length);
    readStyle(this.#look, saysNothing(style, mode) ? alone(this.#look) : style, frame);
  }

  async #save() {
    const name = this.#name.value.trim();
    if (!name) return;
    await this.#put(name, {
      frame: frameOf(this.#look),
      mode: MODES[this.#look.kind],
      style: fullStyle(this.#look),
      ...(this.#look.groups.length && { groups: this.#look.groups }),
    });
    this.#name.value = "";
    await this.#show();
  }

  #put(name, preset) {
    return ask(`${this.#path}/${encodeURIComponent(name)}`, { method: "PUT", body: JSON.stringify(preset) });
  }

  async #delete({ name }) {
    await ask(`${this.#path}/${encodeURIComponent(name)}`, { method: "DELETE" });
    await this.#show();
  }

  /** Take presets from a file: ours, those of large_image's configuration, OMERO's rendering settings. */
  async #import(file) {
    const [given] = file.files;
    const name = given.name.replace(/\.(json|ya?ml)$/i, "").slice(0, 120);
    const body = await given.text();
    file.value = "";
    await ask(`${this.#path}?${new URLSearchParams({ name })}`, { method: "POST", body });
    await this.#show();
  }

  async #export() {
    const presets = (await ask(this.#path)).map(({ saved, file, ...preset }) => ({
      ...preset,
      default: undefined, // which JSON leaves out
    }));
    const text = JSON.stringify({ imageFramePresets: presets }, null, 2);
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    make("a", { href: address, download: "presets.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}

/** Say whether a preset names a frame and nothing else: those of large_image's first two modes may. */
function saysNothing(style, mode) {
  const words = Object.keys(style ?? {}).filter((key) => key !== "bands" || style.bands.length);
  return !words.length && (!style?.bands || [0, 1].includes(mode?.id));
}

/** Return the style of such a preset: the channel of its frame alone, in grey. */
function alone({ kind }) {
  const [min, max] = AUTO;
  return kind === "channels" ? { bands: [{ framedelta: 0, min, max, palette: "#ffffff" }] } : {};
}
