"""What SECURITY.md promises of the code."""

import ast
import logging
import pickle
from pathlib import Path

import flash_pipeline
from flash_pipeline.cli.dev import _dagster_command
from flash_pipeline.defs.instance import prepare_instance
from flash_pipeline.exchange import embedded_exchange
from flash_pipeline.settings import Settings
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.tracking.server import server_command, server_environment
from flash_pipeline_tests.pages import text_of

SOURCES = sorted(Path(flash_pipeline.__file__).parent.rglob("*.py"))
UNPICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
RUNNERS = {"torch.load", "np.load", "numpy.load", "eval", "exec", "os.system", "os.popen"}


def dangers(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNPICKLERS:
            found.append(node.module or "")
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if any(ast.unparse(each) == "allow_pickle=False" for each in node.keywords):
                continue
            found += [name] if name in RUNNERS else []
            found += [name for word in node.keywords if word.arg == "shell"]
    return found


def test_no_module_unpickles_or_runs_text():
    found = {path.name: dangers(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {name: each for name, each in found.items() if each} == {}
    assert dangers("import pickle\ntorch.load(f)\nrun(x, shell=True)") == [
        "pickle",
        "torch.load",
        "run",
    ]


class Planted:
    """Leaves a mark on the disk when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_place_of_a_checkpoint_is_refused_and_never_run(tmp_path, caplog):
    mark = tmp_path / "unpickled"
    checkpoint = Checkpoint(tmp_path, "abc", "random weights", minutes=0.0)
    checkpoint.path.write_bytes(pickle.dumps(Planted(mark)))
    with caplog.at_level(logging.WARNING):
        checkpoint.resume(state=None)
    assert checkpoint.resumed is None
    assert "cannot be read" in caplog.text
    assert not mark.exists()


def test_what_dagster_is_told_below_the_home_is_kept_as_the_page_says(tmp_path):
    said = tmp_path / "dagster" / "dagster.yaml"
    said.parent.mkdir()
    said.write_text("telemetry:\n  enabled: true\n")
    prepare_instance(Settings(home=tmp_path), {})
    assert said.read_text() == "telemetry:\n  enabled: true\n"
    page = text_of("SECURITY.md")
    assert "can run code as you: Dagster imports what `dagster/dagster.yaml`" in page


def test_every_server_listens_on_this_machine_alone(tmp_path):
    dagster = _dagster_command(3000)
    assert dagster[1:3] == ["-m", "flash_pipeline.cli.dagster_ui"]  # the guard
    assert dagster[dagster.index("-h") + 1] == "127.0.0.1"
    mlflow = server_command(Settings(home=tmp_path), "127.0.0.1", 5000)
    assert mlflow[mlflow.index("--host") + 1] == "127.0.0.1"
    assert mlflow[mlflow.index("--x-frame-options") + 1] == "DENY"
    with embedded_exchange() as url:
        assert url.startswith("http://127.0.0.1:")


def test_the_tracking_server_unpickles_nothing_and_its_command_holds_no_password(tmp_path):
    settings = Settings(home=tmp_path, tracking_uri="postgresql://me:secret@host/mlflow")
    environ = server_environment(settings, {})
    assert environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert "secret" not in " ".join(server_command(settings, "127.0.0.1", 5000))
