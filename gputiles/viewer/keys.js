// The keyboard: what is not typed into a field.

/** Call what `keys` has for a key: {key: function}. */
export function listen(keys) {
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyped(event.target)) return;
      const work = keys[event.key];
      if (!work) return;
      event.preventDefault();
      event.stopPropagation();
      work();
    },
    true,
  );
}

function isTyped(target) {
  return (
    target.closest?.("dialog, select, textarea") ||
    (target.tagName === "INPUT" && !["checkbox", "range", "color"].includes(target.type))
  );
}
