"""The page of the caches and the device: every number that the server tells, at the place of its name."""

from __future__ import annotations

import json
from typing import Any

from tests.browser import Visit, ids

AMOUNTS = ("used", "capacity", "peak")


def table(visit: Visit, name: str) -> dict[str, list[str]]:
    """Return {head: cells} of a table's rows, once the page has some."""
    rows = visit.page.locator(f"#{name} tbody tr")
    visit.until(rows.count, bool, f"rows of {name}")
    found = [[*row.locator("th, td").all_inner_texts()] for row in rows.all()]
    return {head: cells for head, *cells in found}


def report(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = visit.page.request.get(f"{visit.base}/large_image/cache").json()
    return found


def test_the_status_tells_shelves_images_batches_stages_and_errors(tour: Visit) -> None:
    page = tour.page
    item = ids(tour.base)["large.ome.tif"]
    path = f"{tour.base}/item/{item}/tiles"
    places = [[4, x, y] for x in range(8) for y in range(8)]
    page.request.post(f"{path}:batch", data=json.dumps({"tiles": [*places, [4, 99, 0]]}))
    page.goto(f"{tour.base}/status")
    told = report(tour)
    shelves = table(tour, "shelves")
    assert shelves.keys() == told["shelves"].keys()
    assert all(cells[1].endswith("B") for name, cells in shelves.items() if name in ("tiles", "rasters"))
    held = table(tour, "images")["large.ome.tif"]
    assert all(amount.endswith("iB") for amount in held[:2]), "what it holds of either shelf"
    stages = table(tour, "stages")
    assert [*stages] == ["read", *told["queue"]["jobs"]]
    assert stages["read"][0] == f"{told['counts']['reads']:,}"
    assert all(float(number) >= 0 for number in stages["render"][2:]), (
        "seconds, and of a job: here, in the queue"
    )
    batches = table(tour, "batches")
    names = page.locator("#batches thead th").all_inner_texts()
    assert names == ["Jobs", "Jobs waiting", *told["queue"]["batchSizes"]]
    assert list(batches)[:3] == ["1", "2", "3 – 4"][: len(batches)]
    render = names.index("render") - 1
    shown = [int(cells[render].replace(",", "")) for cells in batches.values()]
    counts = told["queue"]["batchSizes"]["render"]["counts"]
    assert shown == [*counts, *[0] * len(shown)][: len(shown)], "the queue is longer than a batch"
    assert sum(shown) == sum(counts) > 0
    assert f"{told['refusals']['404']} × 404" in page.locator("#refusals").inner_text()
    fact = page.locator("[data-fact='Blocks of remote files'] b")
    assert fact.inner_text() == "0 B"


def test_a_distribution_is_a_table_up_to_the_greatest_number(tour: Visit) -> None:
    page = tour.page
    page.goto(f"{tour.base}/status")
    few = {"bounds": [1, 2, 4], "counts": [3, 0, 1, 0], "sum": 6}
    many = {"bounds": [1, 2, 4, 8, 16], "counts": [0, 1, 0, 2, 0, 1], "sum": 40}
    rows = page.evaluate(
        """async (given) => {
          const { spread } = await import("/viewer/spread.js");
          return spread(given).map((row) => [...row.children].map((cell) => cell.textContent));
        }""",
        {"few": few, "many": many},
    )
    assert rows == [
        ["Jobs", "few", "many"],
        ["1", "3", "0"],
        ["2", "0", "1"],
        ["3 – 4", "1", "0"],
        ["5 – 8", "0", "2"],
        ["9 – 16", "0", "0"],
        ["more than 16", "0", "1"],
    ]
