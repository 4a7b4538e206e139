import pytest

from flash_pipeline.training.sources import PACKAGES, code_hash


@pytest.fixture
def package(tmp_path):
    """Return a folder laid out like the package."""
    for part in (*PACKAGES, "cli"):
        (tmp_path / part / "deep").mkdir(parents=True)
        (tmp_path / part / "deep" / "code.py").write_text(f"name = {part!r}\n")
    return tmp_path


def changed(package, change):
    """Return the hashes before and after a change."""
    code_hash.cache_clear()
    before = code_hash(package)
    change()
    code_hash.cache_clear()
    return before, code_hash(package)


def test_the_hash_of_the_package_itself_is_short_and_stays():
    assert len(code_hash()) == 16
    assert code_hash() == code_hash()


@pytest.mark.parametrize("part", PACKAGES)
def test_any_change_of_what_makes_a_training_changes_the_hash(package, part):
    path = package / part / "deep" / "code.py"
    for change in (
        lambda: path.write_text(path.read_text() + "# said otherwise\n"),
        lambda: path.rename(path.with_name("other.py")),
        lambda: (package / part / "new.py").write_text(""),
    ):
        before, after = changed(package, change)
        assert before != after


def test_other_parts_and_other_files_do_not_matter(package):
    def change():
        (package / "cli" / "deep" / "code.py").write_text("other = True\n")
        (package / "model" / "speeds.json").write_text("{}")
        (package / "model" / "__pycache__").mkdir()
        (package / "model" / "__pycache__" / "code.pyc").write_bytes(b"cached")

    before, after = changed(package, change)
    assert before == after
