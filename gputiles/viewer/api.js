// The server, as the pages ask it. Addresses are relative to the page's base.

/** Return the JSON of an address; an Error with the server's message where there is none. */
export async function ask(path, options = {}) {
  const reply = await fetch(path, {
    ...options,
    headers: { Accept: "application/json", ...options.headers },
  });
  const answer = await reply.json();
  if (!reply.ok) throw new Error(answer.message ?? reply.statusText);
  return answer;
}

/** Return a page of the items whose names contain `text`, and how many there are in all. */
export async function items(text, offset, limit) {
  const query = new URLSearchParams({ text, offset, limit });
  const reply = await fetch(`item?${query}`);
  if (!reply.ok) throw new Error((await reply.json()).message);
  return { items: await reply.json(), total: Number(reply.headers.get("X-Total-Count")) };
}

/** Return the path below which an item's tiles are. */
export const tiles = (item) => `item/${encodeURIComponent(item)}/tiles`;

/** Return the absolute address of a path; braces of a template stay as they are. */
export const absolute = (path) => new URL(".", document.baseURI).href + path;

/** Keep a style on the server; returns the id that stands for it as `style=@id`. */
export async function keepStyle(style) {
  return (await ask("styles", { method: "POST", body: JSON.stringify(style) })).id;
}
