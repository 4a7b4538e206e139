"""What the UI is given: pictures that fit its dialog, sentences that wrap, links that lead."""

import base64
import io
import re
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from PIL import Image

from flash_pipeline import defs
from flash_pipeline.defs.metadata import WIDEST, link, picture, prose, readable, table


def drawn(width, height):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGBA").save(buffer, format="png")
    return buffer.getvalue()


def shown(value):
    return base64.b64decode(re.search(r"base64,([^)]+)\)", value.md_str)[1])


def test_a_picture_wider_than_the_dialog_is_made_smaller_in_proportion():
    given = drawn(2100, 1500)
    with Image.open(io.BytesIO(shown(picture(given, "equity")))) as image:
        assert (image.format, image.size) == ("PNG", (WIDEST, 714))
        dark, light = image.convert("L").getpixel((500, 5)), image.convert("L").getpixel((500, 708))
    assert dark < 10
    assert light > 245
    assert picture(given, "equity") == picture(given, "equity")


def test_a_picture_that_fits_stays_as_it_is():
    given = drawn(WIDEST, 20)
    assert shown(picture(given, "loss")) == given
    assert picture(given, "loss").md_str.startswith("![loss](data:image/png;base64,")


def test_every_picture_of_the_metadata_goes_through_that_bound():
    makers = [
        path.name
        for path in Path(defs.__file__).parent.rglob("*.py")
        if "data:image" in path.read_text(encoding="utf-8")
    ]
    assert makers == ["metadata.py"]


def test_rows_are_for_people():
    row = {"made_at": 1_773_133_200_000, "prediction": 0.0048177487380802, "model_version": "12"}
    assert readable(row).data == {
        "made_at": "2026-03-10T09:00Z",
        "prediction": 0.00481775,
        "model_version": "12",
    }
    shown = table(pa.Table.from_pylist([row, {**row, "made_at": None, "prediction": None}]))
    assert shown.records[0] == readable(row)
    assert shown.records[1].data["prediction"] is None
    assert [column.type for column in shown.schema.columns] == ["UTC", "double", "string"]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("No evidence (t = 0.41). +1.5 %, p < 0.05", r"No evidence (t = 0.41). +1.5 %, p \< 0.05"),
        ("last_value earned more", "last_value earned more"),
        ("[+0.1, +0.2] *and* _so_ `on`", r"\[+0.1, +0.2\] \*and\* \_so\_ \`on\`"),
    ],
)
def test_sentences_wrap_and_keep_their_words(text, marked):
    assert prose(text) == dg.MetadataValue.md(marked)


@pytest.mark.parametrize("page", ["http://127.0.0.1:5001/#/models/a", "https://mlflow.example/"])
def test_a_page_is_a_link_and_any_other_place_is_text(page):
    assert link(page) == dg.MetadataValue.url(page)
    assert link("runs:/abc") == dg.MetadataValue.text("runs:/abc")
