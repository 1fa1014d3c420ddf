// Elements, made in one call.

/** Return an element: `on…` are listeners, true and false are properties, undefined is left out. */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean" && name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Return a row of a table. */
export function cells(head, values) {
  return make("tr", {}, make("th", { scope: "row" }, head), ...values.map((value) => make("td", {}, value)));
}

/** Return the element of an id. */
export const get = (id) => document.getElementById(id);

/** Return bytes as people write them. */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) [count, at] = [count / 1024, at + 1];
  return `${count.toFixed(at && count < 100 ? 1 : 0)} ${units[at]}`;
}

/** Return a function that runs `work` once nobody has called it for some milliseconds. */
export function settled(milliseconds, work) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}
