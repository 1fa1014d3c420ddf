// Pictures of tiles, as what the drawer draws.

/** Decode the bytes of a picture. */
export async function paint(data) {
  const bitmap = await createImageBitmap(new Blob([data]), { colorSpaceConversion: "none" });
  const context = canvasOf(bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context;
}

/** Return a picture of nothing: what lies below stays. */
export const empty = () => canvasOf(1, 1);

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return canvas.getContext("2d");
}
