// Named views on the server: saved, chosen, deleted, taken from a file and given as one.
import { ask } from "./api.js";
import { make } from "./dom.js";
import { LONGEST, readGroups } from "./groups.js";
import { AUTO, frameOf, fullStyle, moveTo } from "./look.js";
import { bandsOf, blockOf } from "./omero.js";
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
      accept: ".json,application/json",
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
    const drop = make(
      "button",
      {
        type: "button",
        "aria-label": `Delete ${preset.name}`,
        onclick: () => this.#try(() => this.#delete(preset)),
      },
      "Delete",
    );
    return make("li", { class: "line" }, choose, drop);
  }

  #choose({ frame = 0, mode, style, groups }) {
    moveTo(this.#look, frame);
    if (groups) this.#look.groups = readGroups(groups, this.#look.channels.length);
    readStyle(this.#look, saysNothing(style, mode) ? alone(this.#look) : style, frame);
    this.#applied();
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
    const [{ name: fileName }] = file.files;
    const given = JSON.parse(await file.files[0].text());
    file.value = "";
    const block = blockOf(given);
    const ours = block && [{ name: fileName.replace(/\.json$/i, ""), style: { bands: bandsOf(block) } }];
    const presets = ours ?? (Array.isArray(given) ? given : (given.imageFramePresets ?? [given]));
    if (!presets.every((preset) => typeof preset?.name === "string"))
      throw new Error("This file holds no presets: each needs a name.");
    for (const { name, ...preset } of presets)
      await this.#put(name, { ...preset, style: inOurWords(preset.style) });
    await this.#show();
  }

  async #export() {
    const presets = (await ask(this.#path)).map(({ saved, ...preset }) => preset);
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

/** Return a style of large_image's presets with `autoRange` (percent at each end) said as min and max. */
export function inOurWords(style) {
  if (!Array.isArray(style?.bands)) return style;
  const bands = style.bands.map(({ autoRange, ...band }) =>
    autoRange === undefined
      ? band
      : { ...band, min: `min:${autoRange / 100}`, max: `max:${autoRange / 100}` },
  );
  return { ...style, bands };
}
