// The list of images: found by name, a page at a time; its address keeps the search and the page.
import { items } from "./api.js";
import { bytes, get, make, settled } from "./dom.js";

const SIZE = 48; // images of a page
const asked = new URLSearchParams(location.search);
let text = asked.get("text") ?? "";
let page = Math.max(0, Number(asked.get("page") ?? 1) - 1 || 0);
let latest = 0;

function card(item) {
  const picture = make("span", { class: "picture" });
  if (item.error === undefined) {
    const image = new Image();
    image.loading = "lazy";
    image.alt = "";
    image.onerror = () => picture.replaceChildren("no picture");
    image.src = `item/${item.id}/tiles/thumbnail?width=320&height=240`;
    picture.append(image);
  } else picture.append("not readable");
  const link = make("a", { href: `view/${item.id}` }, picture, make("span", { class: "name" }, item.name));
  const facts = make("a", { href: `item/${item.id}`, "aria-label": `Facts of ${item.name}` }, "Facts");
  const more = make("span", { class: "more muted" }, make("span", {}, bytes(item.size)), facts);
  const wrong = item.error === undefined ? [] : [make("p", { class: "bad" }, item.error)];
  return make("li", {}, link, more, ...wrong);
}

async function show() {
  const turn = ++latest;
  const found = await items(text, page * SIZE, SIZE);
  if (turn !== latest) return; // a newer search is on its way
  const pages = Math.max(1, Math.ceil(found.total / SIZE));
  get("items").replaceChildren(...found.items.map(card));
  const many = `${found.total} ${found.total === 1 ? "image" : "images"}`;
  const none = text ? `No image's name contains “${text}”.` : "There are no images below the served folders.";
  get("count").textContent = found.total ? many : none;
  get("pages").hidden = pages < 2;
  get("place").textContent = `Page ${page + 1} of ${pages}`;
  get("previous").disabled = page === 0;
  get("next").disabled = page >= pages - 1;
}

function turn(to) {
  page = to;
  const query = new URLSearchParams({ ...(text && { text }), ...(page && { page: page + 1 }) });
  history.replaceState(null, "", `${location.pathname}${query.size ? `?${query}` : ""}`);
  scrollTo(0, 0);
  return show();
}

const search = settled(150, () => {
  text = get("words").value.trim();
  turn(0);
});
get("words").value = text;
get("words").oninput = search;
get("search").onsubmit = (event) => event.preventDefault();
get("previous").onclick = () => turn(page - 1);
get("next").onclick = () => turn(page + 1);
await show();
