// Addresses that bring a view back: #z=…&x=…&y=…&frame=…&style=@…&groups=…; z is screen pixels to a pixel.
import { ask, keepStyle } from "./api.js";
import { textOf } from "./groups.js";
import { frameOf, styleOf } from "./look.js";

let keptText = null; // the style that was kept last, and its id
let keptId = null;

/** Return what the address says: {z, x, y, frame, style, groups}, null for what it leaves out. */
export function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const number = (name) => {
    const value = Number.parseFloat(parts.get(name));
    return Number.isFinite(value) ? value : null;
  };
  const [style, groups] = [parts.get("style"), parts.get("groups")];
  return { z: number("z"), x: number("x"), y: number("y"), frame: number("frame"), style, groups };
}

/** Return the style that an address names: `@id`, or the JSON itself. */
export const styleOfAddress = (text) =>
  text.startsWith("@") ? ask(`styles/${encodeURIComponent(text.slice(1))}`) : JSON.parse(text);

/** Return `@id` of a style that the server keeps; null for none. */
export async function styleId(style) {
  if (style === null) return null;
  const text = JSON.stringify(style);
  if (text !== keptText) [keptId, keptText] = [await keepStyle(style), text];
  return `@${keptId}`;
}

/** Return what brings the view back, as the part of an address after #. */
export async function hashOf(viewer, look) {
  const image = viewer.world.getItemAt(0);
  const { x, y } = image.viewportToImageCoordinates(viewer.viewport.getCenter(false));
  const zoom = image.viewportToImageZoom(viewer.viewport.getZoom(false));
  const place = `#z=${Number(zoom.toPrecision(5))}&x=${x.toFixed(1)}&y=${y.toFixed(1)}`;
  const frame = frameOf(look);
  const id = await styleId(styleOf(look));
  const groups = textOf(look);
  const told = [frame && `frame=${frame}`, id && `style=${id}`, groups !== null && `groups=${escaped(groups)}`];
  return [place, ...told.filter(Boolean)].join("&");
}

/** Return a text as a value of an address, with what may stand there as it is. */
const escaped = (text) => encodeURIComponent(text).replace(/%(3A|3B|2C)/g, decodeURIComponent);

/** Go where an address says. */
export function goTo(viewer, { z, x, y }) {
  const image = viewer.world.getItemAt(0);
  if (x !== null && y !== null) viewer.viewport.panTo(image.imageToViewportCoordinates(x, y), true);
  if (z !== null && z > 0) viewer.viewport.zoomTo(image.imageToViewportZoom(z), null, true);
}
