"""The documentation keeps up: docstrings, reference entries, rule pages, shown code, versions."""

import ast
import importlib
import inspect
import pathlib
import re
import runpy
import types
from collections.abc import Iterator

import pytest

import engrax as ex

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = pathlib.Path(ex.__file__).parent
SUBMODULES = (
    "chip",
    "errors",
    "losses",
    "meter",
    "neurons",
    "neurons.surrogates",
    "optim",
    "rl",
    "rules",
    "synapses",
    "tasks",
    "testing",
)


def public_members(module: types.ModuleType) -> dict[str, object]:
    """What `__all__` names, or else every public thing that is defined in the module itself."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [n for n, x in vars(module).items() if getattr(x, "__module__", None) == module.__name__]
    return {name: getattr(module, name) for name in names if not name.startswith("_")}


def documentable(x: object) -> bool:
    return inspect.isclass(x) or inspect.isroutine(x) or hasattr(x, "__wrapped__")


def public_names() -> dict[str, object]:
    """Every public class and function by its full name."""
    found: dict[str, object] = {}
    for dotted in ("engrax", *(f"engrax.{s}" for s in SUBMODULES)):
        for name, member in public_members(importlib.import_module(dotted)).items():
            if documentable(member) and not (type(member) is type and issubclass(member, types.GenericAlias)):
                found[f"{dotted}.{name}"] = member
    return found


NAMES = public_names()


def has_docstring(x: object) -> bool:
    """Whether `x` has words of its own: the signature that a dataclass writes for itself is none."""
    own = x.__dict__.get("__doc__") if inspect.isclass(x) else inspect.getdoc(x)
    return bool(own) and not own.startswith(f"{getattr(x, '__name__', '')}(")


def test_there_are_public_names() -> None:
    assert len(NAMES) > 40
    assert {"engrax.Network", "engrax.rules.EProp", "engrax.neurons.LIF", "engrax.tasks.get"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_has_a_docstring(name: str) -> None:
    assert has_docstring(NAMES[name]), f"{name} has no docstring"


@pytest.mark.parametrize("name", [n for n, x in NAMES.items() if inspect.isclass(x)])
def test_public_methods_have_docstrings(name: str) -> None:
    cls = NAMES[name]
    # A docstring of the base class serves an overriding method too, and a field of the base is explained there.
    fields = {name for base in cls.__mro__[1:] for name in vars(base).get("__annotations__", {})}
    bare = [
        member
        for member, value in vars(cls).items()
        if not member.startswith("_")
        and member not in fields
        and (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))
        and not inspect.getdoc(getattr(cls, member))
    ]
    assert not bare, f"{name}: no docstring on {', '.join(bare)}"


def test_every_module_states_its_idea() -> None:
    files = list(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    bare = [str(f.relative_to(PACKAGE)) for f in files if not ast.get_docstring(ast.parse(f.read_text()))]
    assert not bare


def directives() -> Iterator[object]:
    """The objects that the reference pages document; a module stands for all that it defines."""
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for dotted in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
            module, name = dotted, ""
            try:
                found: object = importlib.import_module(dotted)
            except ModuleNotFoundError:
                module, _, name = dotted.rpartition(".")
                found = getattr(importlib.import_module(module), name)
            yield from public_members(found).values() if isinstance(found, types.ModuleType) else (found,)


def test_reference_has_every_public_name() -> None:
    documented = {id(x) for x in directives()}
    missing = sorted(name for name, member in NAMES.items() if id(member) not in documented)
    assert not missing, f"no '::: name' in docs/reference for {', '.join(missing)}"


@pytest.mark.parametrize("name", [n.rpartition(".")[2] for n in NAMES if n.startswith("engrax.rules.")])
def test_every_rule_has_a_page(name: str) -> None:
    rule = NAMES[f"engrax.rules.{name}"]
    if not inspect.isclass(rule) or inspect.isabstract(rule) or name == "Rule":
        return
    page = ROOT / "docs" / "rules" / f"{name.lower()}.md"
    text = page.read_text()
    for heading in ("## What delta is", "## Implementation details", "## Differences from"):
        assert heading in text, f"{page.name} lacks '{heading}'"
    assert f"docs/rules/{page.name}" in (ROOT / "README.md").read_text(), f"README.md's table lacks {name}"


def section(path: pathlib.Path, name: str) -> str:
    marks = re.search(rf"# --8<-- \[start:{name}\]\n(.*?)\n*# --8<-- \[end:{name}\]", path.read_text(), re.DOTALL)
    assert marks
    return marks[1]


def test_readme_shows_the_example_that_is_run() -> None:
    shown = re.search(r"```python\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown
    assert shown[1] == section(ROOT / "examples" / "ten_lines.py", "code")


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted(p.name for p in (ROOT / "examples").glob("*.py")))
def test_example_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {ex.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{ex.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_package_is_typed_and_brings_its_recipes() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "recipes" / "digits.toml").exists()


def test_relative_links_of_the_top_pages_lead_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
        assert links
        broken = [link for link in links if not (ROOT / link).exists()]
        assert not broken, f"{page}: {', '.join(broken)}"
