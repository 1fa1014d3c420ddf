// Groups of channels in the panel: switched on and off at once, shown alone, made of what is on.
import { make } from "./dom.js";
import { LONGEST, nameOf, stateOf } from "./groups.js";

/** The groups of a look; `switched` is called after channels were, `regrouped` after the groups were changed. */
export class GroupPanel {
  #look;
  #switched;
  #regrouped;
  #list = make("ul", { class: "groups" });
  #count = make("span", { class: "muted" });
  #name = make("input", {
    type: "text",
    maxlength: LONGEST,
    placeholder: "Name what is on as a group",
    "aria-label": "Name of a group",
  });

  constructor(look, switched, regrouped) {
    [this.#look, this.#switched, this.#regrouped] = [look, switched, regrouped];
    const form = make("form", { class: "line" }, this.#name, make("button", {}, "Group"));
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#add();
    };
    this.element = make(
      "details",
      { class: "grouping" },
      make("summary", {}, "Groups ", this.#count),
      this.#list,
      form,
    );
    this.#fill();
  }

  /** Show the look as it is. */
  refresh() {
    if (this.#list.children.length !== this.#look.groups.length || this.#isOther()) this.#fill();
    this.#look.groups.forEach((group, at) => {
      const state = stateOf(group, this.#look);
      this.#list.children[at].firstElementChild.setAttribute("aria-pressed", state);
    });
  }

  /** Let a name be typed. */
  focus() {
    this.element.open = true;
    this.#name.focus();
  }

  #shown = []; // the groups that the list shows

  #isOther() {
    return this.#look.groups.some((group, at) => group !== this.#shown[at]);
  }

  #fill() {
    this.#shown = [...this.#look.groups];
    this.#list.replaceChildren(...this.#shown.map((group) => this.#entry(group)));
    this.#count.textContent = this.#shown.length ? `${this.#shown.length}` : "";
    this.#list.hidden = !this.#shown.length;
    if (this.#shown.length) this.element.open = true;
  }

  #entry(group) {
    const { name, channels } = group;
    const names = channels.map((at) => this.#look.channels[at].name).join(", ");
    const button = (words, label, onclick, more) =>
      make("button", { type: "button", "aria-label": label, onclick, ...more }, ...words);
    return make(
      "li",
      { class: "group" },
      button(
        [make("span", { class: "name" }, name), " ", make("span", { class: "muted" }, `${channels.length}`)],
        `Group ${name} ${channels.length}`,
        () => this.#switch(group),
        { title: names, "aria-pressed": stateOf(group, this.#look) },
      ),
      button(["Only"], `Only group ${name}`, () => this.#only(group)),
      button(["×"], `Remove group ${name}`, () => this.#remove(group)),
    );
  }

  /** Turn a group on as a whole, or off if it is. */
  #switch(group) {
    const isOn = stateOf(group, this.#look) !== "true";
    for (const at of group.channels) this.#look.channels[at].active = isOn;
    this.#switched();
  }

  #only({ channels }) {
    for (const entry of this.#look.channels) entry.active = channels.includes(entry.index);
    this.#switched();
  }

  #remove(group) {
    this.#take(this.#look.groups.filter((each) => each !== group));
    this.#name.focus();
  }

  /** Make a group of what is on; one of that name becomes it. */
  #add() {
    const name = nameOf(this.#name.value);
    const channels = this.#look.channels.filter((entry) => entry.active).map((entry) => entry.index);
    if (!name || !channels.length) return;
    const at = this.#look.groups.findIndex((group) => group.name === name);
    const groups = [...this.#look.groups];
    groups.splice(at < 0 ? groups.length : at, at < 0 ? 0 : 1, { name, channels });
    this.#name.value = "";
    this.#take(groups);
  }

  #take(groups) {
    this.#look.groups = groups;
    this.refresh();
    this.#regrouped();
  }
}
