// The tiles of one look, for OpenSeadragon: what it asks for at once is one message or one batch.
//
// Browsers keep no batches: what is seen again comes from OpenSeadragon's cache, or from the server's.
import { tiles } from "./api.js";
import { pieces } from "./batch.js";
import { empty, paint } from "./paint.js";

const AT_ONCE = 1024; // tiles of a message or a batch, as the server takes them
const PAUSE = 1200; // milliseconds before a tile is asked for once more
let count = 0;
let hasBatches = true; // until the server, or a proxy before it, says otherwise

/**
 * Return a source of tiles of `view`: {style: text or null, frame}.
 *
 * They come in batches, over a `live` socket where it is open; one by one where there are no batches.
 */
export function makeSource(item, facts, view, { floor = 0, live = null } = {}) {
  const number = ++count;
  const fetching = {
    path: tiles(item),
    query: queryOf(facts, view),
    body: bodyOf(facts, view),
    live,
    running: new Set(), // jobs that are not ended
    asked: new Set(), // requests by HTTP: {jobs, leave}, their jobs that have not come
    waiting: new Set(), // jobs that are asked for over the socket
    seen: null, // {area, finest}: the part of the image that is seen, and the finest level for it
    isGivenUp: false,
    painted: 0,
    failed: 0,
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
    batchEnabled: () => true,
    batchCompatible: (other) => other === source,
    batchMaxJobs: () => AT_ONCE,
    batchTimeout: () => 0, // all that is asked for in one turn
    downloadTileBatchStart: ({ jobs }) => start(fetching, [...jobs]),
  });
  source.slowDown = () => (fetching.live = null); // newer looks need it: a message takes the last one's place
  source.hasFailed = () => fetching.failed > 0 && fetching.painted === 0;
  source.hasSome = () => fetching.painted > 0;
  source.see = (area, level) => {
    if (area === fetching.seen?.area) return; // a coarser level for the same
    fetching.seen = { area, finest: level };
    callOff(fetching);
  };
  source.giveUp = () => {
    fetching.isGivenUp = true;
    for (const { leave } of fetching.asked) leave.abort();
    for (const job of [...fetching.running]) finishEmpty(fetching, job);
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
  const query = { ...wordsOf(facts), ...(frame && { frame }), ...(style !== null && { style }) };
  return new URLSearchParams(query).toString();
}

/** Return what a message or a batch asks for, but for the tiles. */
function bodyOf(facts, { style, frame }) {
  return { ...wordsOf(facts), ...(frame && { frame }), ...(style !== null && { style: JSON.parse(style) }) };
}

function wordsOf(facts) {
  const encoding = encodingOf(facts);
  return { edge: "crop", encoding, ...(encoding === "JPEG" && { jpegQuality: 90 }) };
}

/** Do `work`, which asks for jobs by HTTP, until they have come, or nobody wants any of them. */
async function asking(fetching, jobs, work) {
  const request = { jobs, leave: new AbortController() };
  fetching.asked.add(request);
  try {
    await work({ signal: request.leave.signal, priority: "high" });
  } catch (error) {
    fail(fetching, jobs, error.message);
  } finally {
    fetching.asked.delete(request);
  }
}

function fetchTile(fetching, job) {
  return asking(fetching, new Set([job]), async (options) => {
    const reply = await fetch(job.src, options);
    await finishTile(fetching, job, { status: reply.status, data: await reply.arrayBuffer() });
  });
}

/** Ask for tiles together. */
function start(fetching, jobs) {
  if (fetching.isGivenUp) return jobs.forEach((job) => job.finish(empty(), null, "context2d"));
  jobs.forEach((job) => fetching.running.add(job));
  const waiting = fetching.waiting.size + jobs.length;
  if (waiting <= AT_ONCE && fetching.live?.isOpen) askLive(fetching, jobs);
  else void fetchBatch(fetching, jobs);
}

/** Ask over the socket, with what was asked for before and is still wanted: the last message is called off. */
function askLive(fetching, added) {
  for (const job of fetching.waiting) if (!isWanted(fetching, job)) dismiss(fetching, job);
  const jobs = [...fetching.waiting, ...added];
  const waiting = (fetching.waiting = new Set(jobs));
  fetching.live.ask(
    { ...fetching.body, tiles: jobs.map(placeOf) },
    {
      tile: (place, status, data) => {
        waiting.delete(jobs[place]);
        void finishTile(fetching, jobs[place], { status, data });
      },
      end: ({ status, message }) =>
        fail(fetching, waiting, message ?? "the answer ended before this tile", status),
      lost: () => {
        fetching.waiting = new Set();
        void fetchBatch(fetching, [...waiting].filter((job) => fetching.running.has(job)));
      },
    },
  );
}

async function fetchBatch(fetching, jobs) {
  if (!jobs.length) return;
  if (!hasBatches) return void jobs.forEach((job) => fetchTile(fetching, job));
  const body = JSON.stringify({ ...fetching.body, tiles: jobs.map(placeOf) });
  const left = new Set(jobs); // that have neither come nor been refused
  await asking(fetching, left, async (options) => {
    const reply = await fetch(`${fetching.path}:batch`, { method: "POST", body, ...options });
    if (!reply.ok) {
      hasBatches = ![404, 405].includes(reply.status);
      return void jobs.forEach((job) => fetching.running.has(job) && fetchTile(fetching, job));
    }
    for await (const piece of pieces(reply.body)) {
      left.delete(jobs[piece.place]);
      void finishTile(fetching, jobs[piece.place], piece);
    }
    fail(fetching, left, "the batch ended before this tile");
  });
}

const placeOf = ({ tile }) => [tile.level, tile.x, tile.y];

async function finishTile(fetching, job, { status, data }) {
  if (status !== 200) return fail(fetching, [job], reasonOf(data), status);
  try {
    const picture = await paint(data);
    if (!fetching.running.delete(job)) return;
    fetching.painted++;
    job.finish(picture, null, "context2d");
  } catch (error) {
    fail(fetching, [job], error.message);
  }
}

/** Return what the server, or a proxy before it, says of a refusal. */
function reasonOf(data) {
  const text = new TextDecoder().decode(data);
  try {
    return JSON.parse(text).message ?? text;
  } catch {
    return text;
  }
}

/** Ask for tiles once more, by themselves, where that may help; else say why they are not there. */
function fail(fetching, jobs, reason, status = 503) {
  for (const job of [...jobs].filter((each) => fetching.running.has(each))) {
    if (status >= 500 && !job.userData.isAgain) {
      job.userData.isAgain = true;
      setTimeout(() => fetching.running.has(job) && fetchTile(fetching, job), PAUSE);
    } else {
      fetching.running.delete(job);
      fetching.failed++;
      job.fail(reason, null);
    }
  }
}

/** Call requests off of which nothing is seen any more; of others all may come. */
function callOff(fetching) {
  for (const { jobs, leave } of fetching.asked) {
    const open = [...jobs].filter((job) => fetching.running.has(job));
    if (!open.length || open.some((job) => isWanted(fetching, job))) continue;
    for (const job of open) dismiss(fetching, job);
    leave.abort();
  }
}

/** Say whether something of a job's tile is seen, or would be if those that are finer were not there. */
const isWanted = ({ seen }, { tile }) =>
  !seen || (tile.level <= seen.finest && seen.area.intersection(tile.bounds) !== null);

/** End a job without a picture: once its tile is seen again, the library asks for it anew. */
function dismiss({ running, waiting }, job) {
  running.delete(job);
  waiting.delete(job);
  job.abort(); // as of 6.1.1, this says that the tile is not loading, and no more
  job.jobId = null; // so that its end is nothing to the tile, but counts in its batch, which waits for all
  job.finish(null);
}

/** End a job of a view that nobody wants any more: nothing is drawn, and what lies below stays. */
function finishEmpty({ running }, job) {
  if (running.delete(job)) job.finish(empty(), null, "context2d");
}
