// Distributions of whole numbers, counted between powers of two, side by side in a table.
import { cells, make } from "./dom.js";

/** Return the rows of {name: distribution}, the first of them the names; up to the greatest number seen. */
export function spread(distributions) {
  const columns = Object.entries(distributions);
  const { bounds } = columns.map(([, each]) => each).sort((a, b) => b.bounds.length - a.bounds.length)[0];
  const last = Math.max(0, ...columns.map(([, { counts }]) => counts.findLastIndex(Boolean)));
  const names = ["Jobs", ...columns.map(([name]) => name)].map((name) => make("th", { scope: "col" }, name));
  const rows = Array.from({ length: last + 1 }, (_, at) => {
    const range = rangeOf(bounds, at);
    return cells(
      range,
      columns.map(([name, { counts }]) => share(`${name}, ${range}`, counts, at)),
    );
  });
  return [make("tr", {}, ...names), ...rows];
}

/** Return a count, with a bar of its share. */
function share(label, counts, at) {
  const [count, all] = [counts[at] ?? 0, counts.reduce((sum, each) => sum + each, 0)];
  const value = (count / (all || 1)).toFixed(4);
  const bar = make("meter", { min: 0, max: 1, value, "aria-label": label });
  return make("div", { class: "share" }, bar, count.toLocaleString("en"));
}

/** Return the numbers at a place of a distribution, in words. */
function rangeOf(bounds, at) {
  if (at === bounds.length) return `more than ${bounds.at(-1)}`;
  const [from, to] = [at ? bounds[at - 1] + 1 : 1, bounds[at]];
  return from === to ? `${to}` : `${from} – ${to}`;
}
