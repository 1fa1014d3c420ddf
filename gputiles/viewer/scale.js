// How large things are: a bar of a round length, and the magnification.

/** Keep a bar and a text true to what a viewer shows. */
export function showScale(viewer, layers, facts, bar, text) {
  const draw = () => {
    if (!viewer.world.getItemCount()) return;
    const zoom = viewer.world.getItemAt(0).viewportToImageZoom(viewer.viewport.getZoom(true));
    const unit = facts.mm_x ? facts.mm_x * 1000 : 1; // of a pixel: micrometres, or 1
    const most = Math.min(140, viewer.container.clientWidth - 48); // pixels
    const length = roundLength((Math.max(8, most) / zoom) * unit);
    bar.style.width = `${((length / unit) * zoom).toFixed(1)}px`;
    bar.textContent = facts.mm_x ? words(length) : `${length} px`;
    const magnification = facts.magnification ? `${shorten(facts.magnification * zoom)}×  ·  ` : "";
    text.textContent = `${magnification}${shorten(zoom * 100)} %`;
  };
  for (const event of ["animation", "open", "resize", "update-viewport"]) viewer.addHandler(event, draw);
  layers.addEventListener("added", draw);
}

/** Return the greatest 1, 2 or 5 times a power of ten that is not above `most`. */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].find((digit) => digit * power <= most * 1.0001) * power;
}

function words(micrometres) {
  if (micrometres >= 1000) return `${shorten(micrometres / 1000)} mm`;
  return micrometres >= 1 ? `${shorten(micrometres)} µm` : `${shorten(micrometres * 1000)} nm`;
}

const shorten = (value) => String(Number(value.toPrecision(3)));
