"""Report pages: whole, self-contained, the same for a run in memory and on disk, for every kind of task."""

import html.parser
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from typer.testing import CliRunner

import engrax as ex
from engrax.cli import app
from engrax.cli.report import _serve
from engrax.errors import ArgumentError, DataError

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checked(html.parser.HTMLParser):
    """Closes what it opens, and asks for nothing from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(path: Path) -> tuple[str, str]:
    text = path.read_text()
    page = Checked()
    page.feed(text)
    assert not page.open and "script" not in text.split("<body>")[0]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links), page.links
    return text, " ".join(page.words)


def small(task: ex.tasks.Task, hidden: ex.Neuron, **options: object) -> ex.Run:
    net = ex.Network(
        {"hidden": hidden, "readout": ex.neurons.LI(task.output_size)},
        [ex.Dense("input", "hidden"), ex.Dense("hidden", "hidden"), ex.Dense("hidden", "readout")],
        inputs={"input": task.input_size},
        outputs="readout",
        key=jax.random.key(0),
    )
    rule = ex.rules.BPTT() if not hidden.spiking else ex.rules.EProp()
    return ex.fit(net, task, rule, optax.adam(0.01), 4, batch=8, validate_every=2, progress=False, **options)


def test_a_page_has_every_part(tmp_path: Path) -> None:
    run = small(ex.tasks.get("digits", hold=2), ex.neurons.ALIF(12, threshold=0.3, beta=0.1), seeds=2)
    text, words = read(ex.report(run, tmp_path / "page.html"))
    for part in (
        "Training",
        "A test trial",
        "Confusion",
        "Inside",
        "Weights",
        "Energy of a mean test trial",
        "Network",
    ):
        assert f"<h2>{part}</h2>" in text
    assert text.count("<svg") == 6
    for label in ("training steps", "time (ms)", "eligibility", "decided", "hidden->hidden", "equally wide LSTM"):
        assert label in words
    assert f"{100 * run.test_accuracy:.2f} ±" in words
    assert text == read(ex.report(run, tmp_path / "again.html"))[0]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("task", "settings", "hidden"),
    [
        ("pattern", {}, ex.neurons.LIF(6)),
        pytest.param(
            *("evidence", {"cues": 1, "cue": 10, "gap": 5, "delay": 5, "recall": 5, "trials": 20}, ex.neurons.LSTM(5)),
            marks=pytest.mark.nightly,
        ),
        ("digits", {"variant": "pixels", "hold": 1}, ex.neurons.Rate(5)),
    ],
)
def test_every_kind_of_network_and_task(tmp_path: Path, task: str, settings: dict, hidden: ex.Neuron) -> None:
    run = small(ex.tasks.get(task, **settings), hidden)
    text, _ = read(ex.report(run, tmp_path / "page.html"))
    assert ("Confusion" in text) == (task != "pattern")


class Own(ex.Neuron):
    """A user's model whose state has no names."""

    def init_state(self) -> jax.Array:
        return jnp.zeros(self.size)

    def step(self, state: jax.Array, current: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = 0.9 * state + current
        return state, jnp.tanh(state)


def test_a_users_model_and_file(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    inputs, lengths = random.rand(30, 7, 3), random.randint(3, 8, 30)
    np.savez(tmp_path / "mine.npz", inputs=inputs, targets=random.randint(0, 2, 30), lengths=lengths)
    read(ex.report(small(ex.tasks.get("npz", path=str(tmp_path / "mine.npz")), Own(4)), tmp_path / "page.html"))


@pytest.mark.nightly
def test_the_command_line_writes_the_same_page_at_once_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner, changes = CliRunner(), "network.populations.hidden.size=12 training.steps=4 training.seeds=2 task.hold=2"
    options = [word for change in changes.split() for word in ("--set", change)]
    trained = runner.invoke(app, ["train", "digits", *options, "--json"])
    assert trained.exit_code == 0, trained.output
    path = Path(json.loads(trained.stdout)["report"])
    assert path == Path("runs/digits/report.html")
    first, words = read(path)
    assert "digits by eprop" in words and '"hold": 2' in words
    again = runner.invoke(app, ["report", "runs/digits", "--to", "later.html"])
    assert again.exit_code == 0 and again.stdout.strip() == "later.html"
    later = read(Path("later.html"))[0]
    assert re.sub(r"\d+ s</dd>", "", later) == re.sub(r"\d+ s</dd>", "", first)
    (tmp_path / "runs" / "digits" / "metrics.jsonl").write_text("{")
    assert runner.invoke(app, ["report", "runs/digits"]).exit_code == 1


@pytest.mark.unchecked
def test_nonsense_is_refused(tmp_path: Path) -> None:
    run = small(ex.tasks.get("pattern"), ex.neurons.LIF(3))
    with pytest.raises(ArgumentError, match=r"^path: this run has no folder"):
        ex.report(run)
    with pytest.raises(ArgumentError, match=r"^path: .* is a folder"):
        ex.report(run, tmp_path)
    with pytest.raises(ArgumentError, match=r"^run must be"):
        ex.report(3)
    with pytest.raises(DataError, match=r"recipe\.json is missing"):
        ex.report(tmp_path)


def test_the_page_is_served_until_ctrl_c(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>µ</p>", encoding="utf-8")
    # A shell that runs tests in the background lets its children ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from pathlib import Path; "
    code += f"from engrax.cli.report import _serve; _serve(Path({str(page)!r}), 0)"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().split()[0]
            with urllib.request.urlopen(address) as answer:
                assert answer.read().decode() == "<p>µ</p>"
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address + "recipe.json")
            refused.value.close()
            port = int(address.rstrip("/").rpartition(":")[2])
            with pytest.raises(ArgumentError, match=f"^--port: {port} cannot be used"):
                _serve(page, port)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
