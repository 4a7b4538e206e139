"""Take the README's pictures of both UIs and the report, in a browser: `make pictures`.

A demo home is filled by runs of four days in a row on the embedded exchange, so that there is
something to plot over time. Each picture is written whole, as a palette of at most 300 KB.
"""

import argparse
import tempfile
import time
from pathlib import Path

from PIL import Image

from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import Month
from flash_pipeline.settings import Settings
from flash_pipeline.storage.files import replacing_file
from flash_pipeline.training.tracking import CHAMPION, Registry
from flash_pipeline_tests.browser.driver import MODEL, Dagster, Tab, chromium, expect
from flash_pipeline_tests.browser.serving import Serving, serving
from flash_pipeline_tests.cli.conftest import CommandLine

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 1400
SIDEBAR, TOOLBAR = 370, 110
MOST_BYTES = 300_000
DAYS = 4
DAY_MS = 86_400_000
HOURLY_GROUPS = ("market_data", "reference", "model", "verdict")


def main() -> None:
    """Fill a home where none is named, serve it, and take every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="A home that is filled already.")
    parser.add_argument("--only", metavar="NAME", help="Take this picture alone.")
    arguments = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or Path(folder) / "home"
        if not home.is_dir():
            fill(home)
        now = Clock(int(time.time() * 1000), speed=1)
        with (
            embedded_exchange(clock=now) as url,
            serving(home, url=url) as served,
            chromium() as browser,
        ):
            for name, take in PICTURES.items():
                if arguments.only in (None, name):
                    width = WIDTH + SIDEBAR * (name == "graph")
                    tab = Tab(browser, Path(folder), width, HEIGHTS[name])
                    take(tab, served)
                    write(tab, name)
                    tab.close()


def fill(home: Path) -> None:
    """Run the graph at the same hour of four days in a row, the last of them today."""
    today = int(time.time() * 1000)
    for day in range(DAYS):
        now = today - (DAYS - 1 - day) * DAY_MS
        month = Month.containing(now)
        with embedded_exchange(clock=Clock(now, speed=0)) as url:
            command = CommandLine(home, url)
            months = ("--from", str(month.shift(-3)), "--to", str(month))
            done = command("run", "--recipe", "demo", *months)
            print(f"day {day + 1} of {DAYS}: {'done' if done.returncode == 0 else done.stderr}")


def write(tab: Tab, name: str) -> None:
    """Write a tab's picture, in as many colours as fit."""
    with Image.open(tab.shot(name)) as taken:
        # Beside a graph lies the list of groups, above it a bar.
        top = TOOLBAR * (taken.width > WIDTH)
        picture = taken.convert("RGB").crop((taken.width - WIDTH, top, *taken.size))
    for colours in (256, 128, 64, 32):
        with replacing_file(IMAGES / f"{name}.png") as temporary:
            reduced = picture.quantize(colours, dither=Image.Dither.NONE)
            reduced.save(temporary, format="PNG", optimize=True)
        size = (IMAGES / f"{name}.png").stat().st_size
        if size <= MOST_BYTES:
            break
    print(f"{name}.png: {picture.width} x {picture.height}, {size / 1000:.0f} KB")


def graph(tab: Tab, served: Serving) -> None:
    """Show the assets that an hour refreshes, every group opened."""
    dagster = Dagster(tab, served.dagster_url)
    opened = ",".join(f"global@global:{group}" for group in HOURLY_GROUPS)
    chosen = " or ".join(f'group:"{group}"' for group in HOURLY_GROUPS)
    page = dagster.open(f"asset-groups?expanded={opened}&asset-selection={chosen}")
    page.get_by_text("Hide navigation").click()
    page.reload()  # fits the graph to the width that is free now
    expect(page.get_by_text("live_record").first).to_be_visible()
    settle(tab)


def asset(tab: Tab, served: Serving) -> None:
    """Show the trained model's page with what it plots over time."""
    dagster = Dagster(tab, served.dagster_url)
    dagster.metadata("trained_model", "validation_loss")
    tab.page.get_by_role("button", name="Plots").click()
    settle(tab)


def run(tab: Tab, served: Serving) -> None:
    """Show the newest run's timeline."""
    dagster = Dagster(tab, served.dagster_url)
    page = dagster.open("runs")
    page.get_by_role("link", name="View", exact=True).first.click()
    expect(page.get_by_text("RUN_SUCCESS").first).to_be_visible()
    again = page.get_by_role("button", name="Re-execute all")
    again.locator("xpath=preceding::button[1]").click()  # the timeline in place of the log
    settle(tab)


def report(tab: Tab, served: Serving) -> None:
    """Show the newest backtest's page."""
    page = tab.page
    page.goto(max((served.home / "reports").glob("*/report.html")).as_uri())
    expect(page.locator("#chart-equity canvas")).to_be_visible()
    settle(tab)


def model(tab: Tab, served: Serving) -> None:
    """Show the champion's page in MLflow."""
    page = tab.page
    version = Registry(Settings(home=served.home)).require(CHAMPION).version
    page.goto(f"{served.mlflow_url}/{MODEL}/versions/{version}")
    expect(page.get_by_text("champion").first).to_be_visible()
    settle(tab)


def settle(tab: Tab) -> None:
    """Wait until nothing more is fetched or moved."""
    tab.page.wait_for_timeout(4000)


PICTURES = {"graph": graph, "asset": asset, "run": run, "report": report, "model": model}
HEIGHTS = {"graph": 760, "asset": 1345, "run": 860, "report": 960, "model": 1000}

if __name__ == "__main__":
    main()
