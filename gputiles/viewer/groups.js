// Groups of channels: {name, channels: indexes}; those of the file, those that people make, as links say them.

export const LONGEST = 120; // characters of a name, as the server takes them
const MOST = 200;

/** Return the groups that a list means for an image of `count` channels; what is none is left out. */
export function readGroups(list, count) {
  const found = new Map();
  for (const each of Array.isArray(list) ? list : []) {
    const { name, channels } = each ?? {};
    const isThere = (at) => Number.isInteger(at) && at >= 0 && at < count;
    const members = [...new Set(Array.isArray(channels) ? channels : [])].filter(isThere);
    if (typeof name === "string" && nameOf(name) && members.length) found.set(nameOf(name), members);
  }
  return [...found].slice(0, MOST).map(([name, channels]) => ({ name, channels }));
}

/** Return a name as it is kept: on one line, and not too long. */
export const nameOf = (text) => text.replace(/[\p{C}\p{Z}\s]+/gu, " ").trim().slice(0, LONGEST);

/** Return the groups as a part of an address; null where they are those of the file. */
export function textOf({ groups, facts, channels }) {
  const say = (list) => list.map((each) => `${encodeURIComponent(each.name)}:${each.channels.join()}`).join(";");
  const [text, own] = [say(groups), say(readGroups(facts.channelGroups, channels.length))];
  return text === own ? null : text;
}

/** Take groups from an address. */
export function groupsOf(text, count) {
  const list = text.split(";").filter(Boolean);
  return readGroups(
    list.map((part) => {
      const [name, members = ""] = part.split(":");
      return { name: decoded(name), channels: (members.match(/\d+/g) ?? []).map(Number) };
    }),
    count,
  );
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody typed it
  }
}

/** Say how much of a group is on: "true", "false" or "mixed", as `aria-pressed` does. */
export function stateOf({ channels }, look) {
  const on = channels.filter((at) => look.channels[at].active).length;
  return on === channels.length ? "true" : on ? "mixed" : "false";
}

/** Return the names of the groups that a channel is in. */
export const namesOf = (look, index) =>
  look.groups.filter(({ channels }) => channels.includes(index)).map(({ name }) => name);
