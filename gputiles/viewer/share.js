// The view for use elsewhere: a link, the style, addresses of tiles, a picture at native resolution.
import { absolute, tiles } from "./api.js";
import { get, make } from "./dom.js";
import { frameOf, fullStyle, styleOf } from "./look.js";
import { hashOf, styleId } from "./link.js";
import { queryOf } from "./source.js";

const MOST = 2 ** 26; // pixels of a region

/** Fill and open the dialog of a view. */
export async function openShare(viewer, item, look) {
  const rows = Object.entries(await addresses(viewer, item, look)).map(([name, text]) => line(name, text));
  const { address, words } = await picture(viewer, item, look);
  const link = make("a", { class: "button", id: "picture", href: address, download: "" }, words);
  get("share-rows").replaceChildren(
    ...rows,
    make("div", { class: "line" }, make("span", {}, "Picture"), link),
  );
  get("share").showModal();
}

/** Return the addresses of what is shown, by what reads them. */
async function addresses(viewer, item, look) {
  const style = styleOf(look);
  const [id, frame] = [await styleId(style), frameOf(look)];
  const view = { style: id, frame };
  const query = new URLSearchParams({ ...(frame && { frame }), ...(id && { style: id }) })
    .toString()
    .replaceAll("%40", "@");
  const more = `${id ? `;style=${id}` : ""}${frame ? `;frame=${frame}` : ""}`;
  return {
    Link: `${location.origin}${location.pathname}${await hashOf(viewer, look)}`,
    "Style (JSON)": JSON.stringify(fullStyle(look)),
    "Tiles (large_image)": absolute(
      `${tiles(item)}/zxy/{z}/{x}/{y}?${queryOf(look.facts, view).replaceAll("%40", "@")}`,
    ),
    IIIF: absolute(`iiif/3/${item}${more}/info.json`),
    TileJSON: absolute(`xyz/${item}/tilejson.json${query && `?${query}`}`),
  };
}

/** Return where a picture of the view is: its pixels as they are, or fewer where they are too many. */
async function picture(viewer, item, look) {
  const { left, top, right, bottom } = seen(viewer, look.facts);
  const [width, height] = [right - left, bottom - top];
  const scale = Math.min(1, Math.sqrt(MOST / (width * height)));
  const size = [width, height].map((side) => Math.max(1, Math.floor(side * scale)));
  const query = new URLSearchParams({ left, top, right, bottom, units: "base_pixels", encoding: "PNG" });
  if (scale < 1) query.set("width", size[0]);
  const [id, frame] = [await styleId(styleOf(look)), frameOf(look)];
  if (frame) query.set("frame", frame);
  if (id) query.set("style", id);
  const kind = scale < 1 ? "reduced" : "native resolution";
  return {
    address: `${tiles(item)}/region?${query}`,
    words: `PNG of this view, ${size.join(" × ")} (${kind})`,
  };
}

/** Return the pixels of the image that are seen. */
function seen(viewer, { sizeX, sizeY }) {
  const { x, y, width, height } = viewer.world
    .getItemAt(0)
    .viewportToImageRectangle(viewer.viewport.getBounds(false));
  const [left, top] = [
    Math.min(Math.max(0, Math.floor(x)), sizeX - 1),
    Math.min(Math.max(0, Math.floor(y)), sizeY - 1),
  ];
  const right = Math.max(left + 1, Math.min(sizeX, Math.ceil(x + width)));
  return { left, top, right, bottom: Math.max(top + 1, Math.min(sizeY, Math.ceil(y + height))) };
}

function line(name, text) {
  const input = make("input", {
    type: "text",
    readonly: "",
    value: text,
    "aria-label": name,
    "data-share": name,
    onfocus: () => input.select(),
  });
  const button = make("button", { type: "button", onclick: () => void copy(input, button) }, "Copy");
  return make("div", { class: "line" }, make("span", {}, name), input, button);
}

async function copy(input, button) {
  try {
    await navigator.clipboard.writeText(input.value);
    button.textContent = "Copied";
  } catch {
    input.select(); // a page without the right to the clipboard: the person copies
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
