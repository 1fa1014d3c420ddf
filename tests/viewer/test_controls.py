"""Controls are large enough, or far enough from each other, to be hit (WCAG 2.2, AA), and have names."""

from __future__ import annotations

import pytest

from tests.browser import Visit, ids

# Of a control of less than 24 pixels, a circle of 24 around its middle must reach no other one, nor
# another one's circle; the ends of a window lie where the values are.
CROWDED = """
() => {
  const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
  const boxes = [...document.querySelectorAll("a, button, input, select, summary")]
    .filter((element) => element.checkVisibility() && !element.closest("p, .hidden") && element.tabIndex >= 0)
    .map((element) => [element, element.getBoundingClientRect()])
    // and not scrolled away
    .filter(([element, box]) => element.contains(document.elementFromPoint(...middle(box))));
  const isSmall = ({ width, height }) => Math.min(width, height) < 24;
  const toBox = ([x, y], box) =>
    Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
  const near = (one, other) =>
    toBox(middle(one), other) < 12 ||
    (isSmall(other) && Math.hypot(...middle(one).map((at, axis) => at - middle(other)[axis])) < 24);
  const crowded = boxes.filter(
    ([element, box]) => isSmall(box) && boxes.some(([other, its]) => other !== element && near(box, its)),
  );
  return [boxes.length, crowded.map(([element]) => element.outerHTML.slice(0, 120))];
}
"""
NAMELESS = """
() => [...document.querySelectorAll("a, button, input, select, summary, [role=slider]")]
  .filter((element) => element.checkVisibility() && !element.closest("[aria-hidden=true]"))
  .filter((element) => ![element.ariaLabel, element.textContent, element.labels?.[0]?.textContent]
    .some((name) => name?.trim()))
  .map((element) => element.outerHTML.slice(0, 120))
"""


@pytest.mark.parametrize(
    ("path", "sign"),
    [
        ("", "#items li"),
        ("status", "#shelves td"),
        ("item/quarters.ome.tif", "table td"),
        ("view/many.ome.tif", "body[data-settled=yes]"),
        ("view/stack.ome.tif", "body[data-settled=yes]"),
        ("view/colour.tif", "body[data-settled=yes]"),
    ],
)
def test_controls_are_hit_and_named(visit: Visit, path: str, sign: str) -> None:
    page = visit.page
    kind, _, name = path.partition("/")
    page.goto(f"{visit.base}/{kind}/{ids(visit.base).get(name, '')}".rstrip("/"))
    page.wait_for_selector(sign)
    if name == "many.ome.tif":
        page.evaluate("location.hash = '#groups=one:0,1;another:2'")
        page.get_by_role("button", name="Only group one").wait_for()
        page.get_by_label("Settings of marker 01").click()
    if kind == "view":
        page.get_by_text("Presets").click()
        page.get_by_text("Nothing is saved yet.").wait_for()
    count, crowded = page.evaluate(CROWDED)
    assert count >= 3
    assert crowded == []
    assert page.evaluate(NAMELESS) == []


def test_what_a_control_shows_is_part_of_its_name(visit: Visit) -> None:
    """Who speaks to a page says what is written there."""
    page = visit.page
    visit.open(f"view/{ids(visit.base)['many.ome.tif']}#groups=one:0,1")
    page.get_by_role("button", name="Only group one").wait_for()
    for button in page.get_by_role("button").all():
        name, text = button.get_attribute("aria-label"), button.inner_text().split()
        if name and all(word.isalnum() for word in text):
            assert [word for word in text if word.lower() not in name.lower()] == [], name
