// The facts of one image, and where its tiles are.
import { ask } from "./api.js";
import { bytes, get, make } from "./dom.js";

const main = get("main");

function row(name, ...cells) {
  return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, ...cells));
}

function channels(facts) {
  const entries = (facts.channels ?? []).map((name, index) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = facts.channelColors?.[index] ?? "#888";
    return make("div", {}, swatch, name);
  });
  return entries.length ? [row("Channels", ...entries)] : [];
}

function links(item) {
  return Object.entries(item.links).map(([name, path]) => {
    const address = path.replace(/^\//, "");
    return make("div", {}, address.includes("{") ? `${name}: ${path}` : make("a", { href: address }, name));
  });
}

function show(item) {
  document.title = `${item.name} · gputiles`;
  get("name").textContent = item.name;
  const picture = make("img", { alt: "", src: `item/${item.id}/tiles/thumbnail?width=400&height=300` });
  const plain = Object.entries(item.metadata).filter(
    ([, value]) => value !== null && typeof value !== "object",
  );
  const facts = [["Size of the file", bytes(item.size)], ...plain].map(([name, value]) =>
    row(name, typeof value === "number" ? Number(value.toPrecision(12)) : String(value)),
  );
  const warnings = (item.metadata.warnings ?? []).map((text) => make("p", { class: "muted" }, text));
  main.append(
    make("a", { href: `view/${item.id}`, class: "button" }, "Open in the viewer"),
    ...warnings,
    make("a", { href: `view/${item.id}`, class: "picture", "aria-hidden": "true", tabindex: "-1" }, picture),
    make("table", {}, make("tbody", {}, ...facts, ...channels(item.metadata), row("Links", ...links(item)))),
  );
}

try {
  show(await ask(`item/${encodeURIComponent(main.dataset.item)}`));
} catch (error) {
  main.append(make("p", { class: "bad" }, error.message));
}
