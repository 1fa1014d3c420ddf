// The tiles of one look, for OpenSeadragon: fetched so that they can be given up, one by one or in batches.
import { tiles } from "./api.js";

const AT_ONCE = 64; // tiles of a batch
let count = 0;
let hasBatches = document.body.dataset.batch === "yes"; // until the server says otherwise

/** Return a source of tiles of `view`: {style: text or null, frame}; `hurry` asks for them in batches. */
export function makeSource(item, facts, view, { floor = 0, hurry = false } = {}) {
  const number = ++count;
  const running = new Set();
  const leave = new AbortController();
  const fetching = {
    path: tiles(item),
    query: queryOf(facts, view),
    view,
    facts,
    running,
    signal: leave.signal,
    gathered: [],
  };
  const source = new OpenSeadragon.TileSource({
    width: facts.sizeX,
    height: facts.sizeY,
    tileWidth: facts.tileWidth,
    tileHeight: facts.tileHeight,
    tileOverlap: 0,
    minLevel: floor,
    maxLevel: facts.levels - 1,
    getTileUrl: (z, x, y) => `${fetching.path}/zxy/${z}/${x}/${y}?${fetching.query}`,
    getTileHashKey: (z, x, y) => `${number}/${z}/${x}/${y}`,
    hasTransparency: () => encodingOf(facts) === "PNG",
    downloadTileStart: (job) =>
      source.hurries && hasBatches ? gather(fetching, job) : void fetchTile(fetching, job),
    downloadTileAbort: (job) => job.userData.leave?.abort(),
  });
  source.hurries = hurry;
  source.giveUp = () => {
    leave.abort();
    for (const job of [...running]) finishEmpty(fetching, job);
  };
  return source;
}

/** Return the encoding that loses nothing that is seen: alpha, which is no channel, needs PNG. */
export function encodingOf({ bandCount, omero }) {
  const hasAlpha =
    (bandCount === 2 || bandCount === 4) && (!omero || omero.channels.length % bandCount !== 0);
  return hasAlpha ? "PNG" : "JPEG";
}

/** Return the query of a view's tiles. */
export function queryOf(facts, { style, frame }) {
  const encoding = encodingOf(facts);
  const query = { edge: "crop", encoding, ...(encoding === "JPEG" && { jpegQuality: 90 }) };
  if (frame) query.frame = frame;
  if (style !== null) query.style = style;
  return new URLSearchParams(query).toString();
}

async function fetchTile(fetching, job) {
  const { signal, running } = fetching;
  if (signal.aborted) return void job.finish(empty(), null, "context2d");
  running.add(job);
  const own = (job.userData.leave = new AbortController());
  try {
    const reply = await fetch(job.src, { signal: AbortSignal.any([signal, own.signal]), priority: "high" });
    if (!reply.ok) throw new Error((await reply.json()).message ?? reply.statusText);
    const picture = await paint(await reply.blob());
    if (running.delete(job)) job.finish(picture, null, "context2d");
  } catch (error) {
    if (running.delete(job)) job.fail(error.message, null);
  }
}

/** Keep a job until all that are asked for with it are known, which is before anything else runs. */
function gather(fetching, job) {
  if (fetching.gathered.push(job) > 1) return;
  queueMicrotask(() => {
    while (fetching.gathered.length) void fetchBatch(fetching, fetching.gathered.splice(0, AT_ONCE));
  });
}

/**
 * Fetch tiles with one request; they come as they are ready, in any order.
 *
 * OpenSeadragon's own batches are not used: it drops those that wait when it draws (6.1.1).
 */
async function fetchBatch(fetching, jobs) {
  const { signal, running, view, facts } = fetching;
  if (signal.aborted) return void jobs.forEach((job) => job.finish(empty(), null, "context2d"));
  jobs.forEach((job) => running.add(job));
  const body = {
    edge: "crop",
    encoding: encodingOf(facts),
    jpegQuality: 90,
    tiles: jobs.map(({ tile }) => [tile.level, tile.x, tile.y]),
    ...(view.style !== null && { style: JSON.parse(view.style) }),
    ...(view.frame && { frame: view.frame }),
  };
  try {
    const reply = await fetch(`${fetching.path}:batch`, {
      method: "POST",
      body: JSON.stringify(body),
      signal,
    });
    if (!reply.ok) {
      hasBatches = ![404, 405].includes(reply.status);
      return void jobs.forEach((job) => fetchTile(fetching, job));
    }
    const painting = [];
    for await (const piece of pieces(reply.body))
      painting.push(finishPiece(fetching, jobs[piece.index], piece));
    await Promise.all(painting);
    jobs.forEach((job) => running.delete(job) && job.fail("the batch ended before this tile", null));
  } catch (error) {
    jobs.forEach((job) => running.delete(job) && job.fail(error.message, null));
  }
}

async function finishPiece({ running }, job, { status, data }) {
  const picture = status === 200 ? await paint(new Blob([data])) : null;
  if (!running.delete(job)) return;
  if (picture) job.finish(picture, null, "context2d");
  else job.fail(JSON.parse(new TextDecoder().decode(data)).message, null);
}

/** Decode a picture into what the drawer draws. */
async function paint(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const context = canvasOf(bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context;
}

/** Yield the parts of a batch: three little-endian words (index, status, length), and so many bytes. */
async function* pieces(stream) {
  const reader = stream.getReader();
  let held = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(held.length + value.length);
    joined.set(held);
    joined.set(value, held.length);
    held = joined;
    for (;;) {
      if (held.length < 12) break;
      const head = new DataView(held.buffer, held.byteOffset, 12);
      const length = head.getUint32(8, true);
      if (held.length < 12 + length) break;
      yield {
        index: head.getUint32(0, true),
        status: head.getUint32(4, true),
        data: held.slice(12, 12 + length),
      };
      held = held.subarray(12 + length);
    }
  }
}

/** End a job of a view that nobody wants any more: nothing is drawn, and what lies below stays. */
function finishEmpty({ running }, job) {
  if (running.delete(job)) job.finish(empty(), null, "context2d");
}

const empty = () => canvasOf(1, 1);

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return canvas.getContext("2d");
}
