// The panel of channels: found by name, all that are on, each with its histogram once it is seen.
import { make, settled } from "./dom.js";
import { GroupPanel } from "./grouppanel.js";
import { namesOf } from "./groups.js";
import { BLENDS, isWhole } from "./look.js";
import { percentiles } from "./measure.js";
import { Row } from "./row.js";

/**
 * The panel; `changed` is called after each change of the look, `regrouped` after one of its groups,
 * `say` gets what went wrong.
 */
export class ChannelPanel {
  #look;
  #measures;
  #changed;
  #say;
  #rows;
  #seen = new Set();
  #turn = 0;
  #solo = null; // {entry, active}: what was shown before
  #fill = settled(30, () => this.#measure());

  constructor(look, measures, { changed, regrouped, say }) {
    this.#say = say;
    this.#look = look;
    this.#measures = measures;
    this.#changed = changed;
    const calls = {
      isWhole: isWhole(look),
      changed: () => this.#take(),
      solo: (entry) => this.#only(entry),
      auto: (entries) => void this.auto(entries),
    };
    this.#rows = look.channels.map((entry) => new Row(entry, calls));
    this.#groups = new GroupPanel(
      look,
      () => this.#take(),
      () => {
        this.#filter();
        regrouped();
      },
    );
    this.element = make("section", { "aria-label": "Channels" }, this.#tools(), this.#list());
  }

  /** Show the look as it is: after a preset, a link, a step along an axis. */
  refresh() {
    for (const row of this.#rows) row.refresh();
    this.#blend.value = this.#look.composite;
    this.#mark();
    this.#filter();
    this.#fill();
  }

  /** The position is another one: count again. */
  moved() {
    this.#fill();
  }

  /** Set the windows of channels to percentiles of their values; of all unless told otherwise. */
  async auto(entries = this.#look.channels) {
    const share = Math.min(Math.max(Number(this.#share.value) / 100, 0), 0.49);
    const measures = await this.#counted(entries);
    if (!measures) return;
    entries.forEach((entry, at) => {
      if (measures[at]) entry.window = entry.known = this.#window(measures[at], [share, share]);
    });
    for (const row of this.#rows) row.refresh();
    this.#take();
  }

  /** Return the window that leaves shares of the values out, in numbers as the image has them. */
  #window(measure, shares) {
    const areWhole = isWhole(this.#look);
    const near = (value) => (areWhole ? Math.round(value) : Number(value.toPrecision(6)));
    const [low, high] = shares.map((share, end) => near(percentiles(measure, share)[end]));
    return [low, Math.max(high, areWhole ? low + 1 : high)];
  }

  /** Turn a channel on or off. */
  toggle(index) {
    const entry = this.#look.channels[index];
    if (!entry) return;
    entry.active = !entry.active;
    this.#take();
  }

  /** Show values under the cursor: a map from the channels' indexes; null clears them. */
  tell(values) {
    for (const row of this.#rows) row.value = values?.get(row.entry.index) ?? null;
  }

  focusSearch() {
    this.#words.focus();
  }

  /** Let what is on be named as a group. */
  nameGroup() {
    this.#groups.focus();
  }

  #groups;
  #words;
  #onlyActive;
  #blend;
  #share;
  #count;

  #tools() {
    this.#words = make("input", {
      type: "search",
      placeholder: "Search channels",
      "aria-label": "Search channels",
      oninput: () => this.#filter(),
    });
    this.#onlyActive = make("input", { type: "checkbox", onchange: () => this.#filter() });
    this.#count = make("span", { class: "muted" });
    const names = BLENDS.map((name) => make("option", { value: name }, name));
    this.#blend = make("select", { "aria-label": "Blend", onchange: () => this.#mix() }, ...names);
    this.#share = make("input", {
      type: "number",
      min: 0,
      max: 49,
      step: 0.1,
      value: 0.1,
      "aria-label": "Percent that auto leaves out at each end",
    });
    const all = make(
      "button",
      { type: "button", id: "auto-all", onclick: () => void this.auto() },
      "Auto all",
    );
    const none = make("button", { type: "button", onclick: () => this.#switchAll() }, "All off");
    return make(
      "div",
      { class: this.#look.channels.length > 1 ? "tools" : "tools alone" },
      make(
        "div",
        { class: "line" },
        this.#words,
        make("label", { class: "check" }, this.#onlyActive, "Only active"),
      ),
      make(
        "div",
        { class: "line" },
        all,
        make("label", { class: "check" }, "leaving out", this.#share, "%"),
        none,
      ),
      make("div", { class: "line" }, make("span", {}, "Blend"), this.#blend, this.#count),
      this.#groups.element,
    );
  }

  #list() {
    const list = make(
      "ol",
      { class: "channels", onopened: () => this.#fill() },
      ...this.#rows.map((row) => row.element),
    );
    const watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries)
        this.#seen[isIntersecting ? "add" : "delete"](Number(target.dataset.channel));
      this.#fill();
    });
    for (const row of this.#rows) watcher.observe(row.element);
    this.#mark();
    return list;
  }

  /** Count what is seen and shown; a window that was left to the server is known then. */
  async #measure() {
    const turn = ++this.#turn;
    const wanted = this.#rows.filter((row) => row.needsCounts && this.#seen.has(row.entry.index));
    const counted = await this.#counted(wanted.map((row) => row.entry));
    if (!counted || turn !== this.#turn) return; // or a newer count is on its way
    wanted.forEach((row, at) => {
      const { entry } = row;
      if (counted[at] && !entry.window) entry.known = this.#window(counted[at], entry.auto.map(shareOf));
      row.measure = counted[at];
    });
  }

  /** Return what was counted of channels; null, and the reason is told, where it cannot be. */
  async #counted(entries) {
    try {
      return await this.#measures.of(entries.map((entry) => entry.index));
    } catch (error) {
      this.#say(`The values cannot be counted: ${error.message}`);
      return null;
    }
  }

  #take() {
    this.#look.touched = true;
    this.#look.custom = null;
    if (this.#solo && !this.#isAlone(this.#solo.entry)) this.#solo = null;
    for (const row of this.#rows) row.refresh();
    this.#mark();
    this.#filter();
    this.#fill();
    this.#changed();
  }

  #mix() {
    this.#look.composite = this.#blend.value;
    this.#take();
  }

  #switchAll() {
    for (const entry of this.#look.channels) entry.active = false;
    this.#take();
  }

  /** Show one channel alone; again, what was shown before. */
  #only(entry) {
    const before = this.#solo;
    const active = before?.active ?? this.#look.channels.filter((each) => each.active);
    const isBack = before?.entry === entry;
    for (const each of this.#look.channels) each.active = isBack ? active.includes(each) : each === entry;
    this.#solo = isBack ? null : { entry, active };
    this.#take();
  }

  #isAlone(entry) {
    return this.#look.channels.every((each) => each.active === (each === entry));
  }

  #mark() {
    for (const row of this.#rows) row.isSolo = this.#solo?.entry === row.entry;
    this.#groups.refresh();
    const active = this.#look.channels.filter((entry) => entry.active).length;
    this.#count.textContent = `${active} of ${this.#look.channels.length} on`;
  }

  /** Show the channels whose names, or whose groups' names, contain what is searched for. */
  #filter() {
    const words = this.#words.value.trim().toLowerCase();
    for (const { entry, element } of this.#rows) {
      const names = [entry.name, ...namesOf(this.#look, entry.index)];
      const isFound = names.some((name) => name.toLowerCase().includes(words));
      element.hidden = !isFound || (this.#onlyActive.checked && !entry.active);
    }
  }
}

/** Return the share that the end of a window leaves out: "max:0.02" one fiftieth, "max" nothing. */
const shareOf = (end) => Number.parseFloat(end.split(":")[1]) || 0;
