// One image: the viewer, its panel, and what connects them.
import { ask, items, tiles } from "./api.js";
import { Axes } from "./axes.js";
import { ChannelPanel } from "./channels.js";
import { get, make, settled } from "./dom.js";
import { groupsOf } from "./groups.js";
import { listen } from "./keys.js";
import { Layers } from "./layers.js";
import { goTo, hashOf, readAddress, styleOfAddress } from "./link.js";
import { frameOf, lookOf, moveTo, styleOf } from "./look.js";
import { Measures } from "./measure.js";
import { Overview } from "./overview.js";
import { Presets } from "./presets.js";
import { readStyle } from "./reading.js";
import { Readout } from "./readout.js";
import { showScale } from "./scale.js";
import { openShare } from "./share.js";
import { loadLibrary, openViewer } from "./stage.js";
import { TonePanel } from "./tone.js";

const item = document.body.dataset.item;

function say(text) {
  const [words, dismiss] = get("notice").children;
  get("notice").hidden = !text;
  words.textContent = text;
  dismiss.onclick = () => say("");
}

/** Everything of one image that is seen and touched. */
class View {
  constructor(facts) {
    this.facts = facts;
    this.look = lookOf(facts);
    this.viewer = openViewer(facts);
    this.layers = new Layers(this.viewer, item, facts);
    this.measures = new Measures(item, this.look);
    this.overview = new Overview(this.viewer, item, facts);
    this.axes = new Axes(this.look, () => this.#moved());
    const isMultiplex = this.look.kind === "channels";
    this.channels = isMultiplex
      ? new ChannelPanel(this.look, this.measures, {
          changed: () => this.#wished(),
          regrouped: () => this.keepAddress(),
          say,
        })
      : null;
    this.tone = this.look.kind === "colour" ? new TonePanel(this.look, () => this.#wished()) : null;
    this.presets = new Presets(item, this.look, () => this.#applied(), say);
    this.keepAddress = settled(500, () => void this.#keepAddress());
    this.keepOverview = settled(120, () => void this.overview.show(this.#view()));
  }

  /** Show the image, as the address says, else in the preset that its folder begins with, if there is one. */
  async open(preset) {
    const stored = make(
      "section",
      {},
      make("p", { class: "muted" }, "The colours of this image are those of its file."),
    );
    get("panel").append(
      this.axes.element,
      (this.channels ?? this.tone)?.element ?? stored,
      this.presets.element,
    );
    get("stage").append(this.overview.element);
    this.#connect();
    await this.#restore(preset);
  }

  async #restore(preset) {
    const asked = readAddress();
    if (preset && [asked.style, asked.frame, asked.groups].every((part) => part === null))
      this.presets.take(preset);
    if (asked.frame !== null) moveTo(this.look, asked.frame);
    this.#regroup(asked.groups);
    if (asked.style !== null) await this.#take(asked);
    this.layers.addEventListener("added", () => goTo(this.viewer, asked), { once: true });
    this.#refresh();
    this.#changed();
  }

  #regroup(text) {
    if (text !== null) this.look.groups = groupsOf(text, this.look.channels.length);
  }

  async #take({ style, frame }) {
    try {
      readStyle(this.look, await styleOfAddress(style), frame);
    } catch (error) {
      say(`The style of this link cannot be shown: ${error.message}`);
    }
  }

  #connect() {
    const { viewer, layers, look } = this;
    showScale(viewer, layers, this.facts, get("bar").firstElementChild, get("zoom"));
    const tell = (values) => this.channels?.tell(values);
    this.readout = new Readout(viewer, layers, item, look, {
      place: get("place"),
      values: get("values"),
      tell,
    });
    layers.addEventListener("settled", () => this.#settled());
    viewer.addHandler("animation-finish", this.keepAddress);
    viewer.addHandler("tile-load-failed", ({ message }) => say(`A tile cannot be shown: ${message}`));
    viewer.addHandler("canvas-key", (event) => {
      if (["KeyR", "KeyF"].includes(event.originalEvent.code)) event.preventDefaultAction = true;
    });
    addEventListener("hashchange", () => void this.#followAddress());
  }

  /** An address was typed or pasted: go there without loading the page. */
  async #followAddress() {
    const asked = readAddress();
    moveTo(this.look, asked.frame ?? 0);
    this.#regroup(asked.groups);
    if (asked.style !== null) await this.#take(asked);
    goTo(this.viewer, asked);
    this.#refresh();
    this.#changed();
  }

  #view() {
    const style = styleOf(this.look);
    return { style: style === null ? null : JSON.stringify(style), frame: frameOf(this.look) };
  }

  /** Somebody changed the look: what was said of an older one is said no more. */
  #wished() {
    say("");
    this.#changed();
  }

  #changed() {
    get("busy").textContent = "loading …";
    document.body.dataset.settled = "no";
    this.layers.show(this.#view());
    if (this.layers.isSettled) this.#settled();
    this.keepOverview();
    this.keepAddress();
  }

  /** A step along an axis: windows that were left to the server stay what they were. */
  #moved() {
    for (const entry of this.look.channels) entry.window ??= entry.known;
    this.channels?.moved();
    this.#wished();
  }

  #applied() {
    this.#refresh();
    this.#changed();
  }

  #refresh() {
    this.axes.refresh();
    this.channels?.refresh();
    this.tone?.refresh();
  }

  #settled() {
    get("busy").textContent = "";
    document.body.dataset.settled = "yes";
    this.keepAddress();
  }

  async #keepAddress() {
    if (!this.layers.image) return;
    const hash = await hashOf(this.viewer, this.look);
    history.replaceState(null, "", `${location.pathname}${location.search}${hash}`);
  }
}

/** Go to another image of the list. */
async function visit(by) {
  const all = (await items("", 0, 0)).items.filter((entry) => entry.error === undefined || entry.id === item);
  const at = all.findIndex((entry) => entry.id === item);
  const next = all[(at + by + all.length) % all.length];
  if (next && next.id !== item) location.assign(new URL(`view/${next.id}`, document.baseURI));
}

function fold() {
  const isFolded = document.body.classList.toggle("folded");
  get("fold").setAttribute("aria-pressed", !isFolded);
}

function full() {
  if (document.fullscreenElement) return document.exitFullscreen();
  return document.documentElement
    .requestFullscreen()
    .catch(() => say("This browser allows no full screen here."));
}

function listenTo(view) {
  const { viewport } = view.viewer;
  const zoom = (by) => viewport.zoomBy(by).applyConstraints();
  const home = () => viewport.goHome();
  const native = () => viewport.zoomTo(view.layers.image?.imageToViewportZoom(1) ?? 1);
  const share = () => openShare(view.viewer, item, view.look).catch((error) => say(error.message));
  const help = () => get("help").showModal();
  const second = view.look.axes[1] ?? null;
  const buttons = {
    "zoom-in": () => zoom(1.5),
    "zoom-out": () => zoom(1 / 1.5),
    home,
    native,
    full,
    fold,
    "open-share": share,
    "open-help": help,
    previous: () => visit(-1),
    next: () => visit(1),
  };
  for (const [id, work] of Object.entries(buttons)) get(id).onclick = work;
  const channels = Object.fromEntries(
    [..."123456789"].map((digit) => [digit, () => view.channels?.toggle(digit - 1)]),
  );
  listen({
    ...channels,
    "+": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: home,
    f: full,
    p: fold,
    l: share,
    "?": help,
    e: () => void view.channels?.auto(),
    c: () => view.channels?.focusSearch(),
    g: () => view.channels?.nameGroup(),
    "[": () => view.axes.step(-1),
    "]": () => view.axes.step(1),
    "{": () => view.axes.step(-1, second),
    "}": () => view.axes.step(1, second),
    ",": () => void visit(-1),
    ".": () => void visit(1),
  });
}

async function main() {
  const [facts] = await Promise.all([ask(tiles(item)), loadLibrary(document.body.dataset.library)]);
  const isPattern = item === "test"; // which is no item: there are no facts of it
  const { name, preset } = isPattern
    ? { name: "test pattern" }
    : await ask(`item/${encodeURIComponent(item)}`);
  get("facts").hidden = isPattern;
  get("name").textContent = name;
  document.title = `${name} · gputiles`;
  const view = new View(facts);
  listenTo(view);
  await view.open(preset);
  view.viewer.canvas.focus({ preventScroll: true });
}

main().catch((error) => say(error.message));
