// What the server holds and does, looked at once a second while the page is seen.
import { ask } from "./api.js";
import { bytes, cells, get, make } from "./dom.js";
import { spread } from "./spread.js";

const EVERY = 1000; // milliseconds
const IN_BYTES = ["tiles", "rasters", "spilled"]; // shelves
let before = null;

/** Return the amount of a shelf: in bytes, or in what the shelf counts. */
const amount = (shelf, value) => (IN_BYTES.includes(shelf) ? bytes(value) : value.toLocaleString("en"));

function row(name, shelf) {
  const looked = shelf.hits + shelf.misses + shelf.coalesced;
  const rate = looked ? `${((100 * shelf.hits) / looked).toFixed(1)} %` : "–";
  const share = shelf.capacity ? shelf.used / shelf.capacity : 0;
  const meter = make("meter", { min: 0, max: 1, value: share.toFixed(4), "aria-label": `${name}: filled` });
  const values = [
    meter,
    amount(name, shelf.used),
    amount(name, shelf.capacity),
    amount(name, shelf.peak),
    ...[shelf.items, shelf.images, shelf.hits, shelf.misses].map((value) => value.toLocaleString("en")),
    rate,
    ...[shelf.coalesced, shelf.evictions, shelf.inFlight].map((value) => value.toLocaleString("en")),
  ];
  const made = cells(name, values);
  made.dataset.shelf = name;
  return made;
}

function imageRow({ id, name, bytes: held }) {
  const link = make("a", { href: `view/${id}` }, name);
  return cells(
    link,
    IN_BYTES.map((shelf) => bytes(held[shelf] ?? 0)),
  );
}

/** Return the milliseconds of each of some jobs that took so many seconds together. */
const each = (seconds, jobs) => (jobs && seconds !== undefined ? ((1000 * seconds) / jobs).toFixed(2) : "–");

function stageRow(name, { jobs, failed, seconds, waited }) {
  const [count, spent] = [jobs[name], seconds[name] ?? 0];
  const times = [spent.toFixed(2), each(spent, count), each(waited[name], count)];
  return cells(name, [count.toLocaleString("en"), failed[name] ?? 0, ...times]);
}

function readRow({ counts: { reads }, readSeconds }) {
  return cells("read", [reads.toLocaleString("en"), "–", readSeconds.toFixed(2), each(readSeconds, reads), "–"]);
}

function fact(name, value, unit = "") {
  const text = typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : value;
  return make(
    "div",
    { class: "fact", "data-fact": name },
    make("b", {}, `${text}${unit}`),
    make("span", {}, name),
  );
}

/** Return what was counted since the last look, for each second. */
function rates(report, seconds) {
  const then = before?.report;
  const since = (now, earlier) => (then === undefined ? 0 : (now - earlier) / seconds);
  const done = Object.values(report.queue.jobs).reduce((sum, count) => sum + count, 0);
  return [
    fact("Jobs a batch, on average", report.queue.batches ? done / report.queue.batches : 0),
    fact("Batches a second", since(report.queue.batches, then?.queue.batches)),
    fact("Reads a second", since(report.counts.reads, then?.counts.reads)),
  ];
}

const spaced = (key) => key.replace(/([A-Z])/g, " $1").toLowerCase();
const capital = (text) => text[0].toUpperCase() + text.slice(1);

function show(report) {
  const now = performance.now();
  const { queue, device } = report;
  get("device").textContent =
    `${device.name}, ${device.workers} ${device.workers === 1 ? "worker" : "workers"}`;
  get("numbers").replaceChildren(
    fact("Jobs waiting", queue.waiting),
    fact("Bytes waiting", bytes(queue.waitingBytes)),
    fact("Batches running", queue.running),
    fact("Calls in the reading room", report.reading),
    fact("Open descriptors", report.descriptors),
    fact("Blocks of remote files", bytes(report.remote.used)),
    ...rates(report, before ? (now - before.at) / 1000 : 1),
    ...Object.entries(report.counts).map(([key, value]) => fact(capital(spaced(key)), value)),
    fact("Jobs skipped", queue.skipped),
  );
  const rows = Object.entries(report.shelves).map(([name, shelf]) => row(name, shelf));
  get("shelves").tBodies[0].replaceChildren(...rows);
  get("images").tBodies[0].replaceChildren(...report.images.map(imageRow));
  const stages = Object.keys(queue.jobs).map((name) => stageRow(name, queue));
  get("stages").tBodies[0].replaceChildren(readRow(report), ...stages);
  const [names, ...batches] = spread({ "Jobs waiting": queue.depths, ...queue.batchSizes });
  get("batches").tHead.replaceChildren(names);
  get("batches").tBodies[0].replaceChildren(...batches);
  const refused = Object.entries(report.refusals).map(([status, count]) => `${count} × ${status}`);
  get("refusals").textContent = `Refused requests and tiles: ${refused.join(", ") || "none"}`;
  before = { report, at: now };
}

async function look() {
  if (!document.hidden) {
    try {
      show(await ask("large_image/cache"));
    } catch (error) {
      get("device").textContent = `The server does not answer: ${error.message}`;
    }
  }
  setTimeout(look, EVERY);
}

await look();
