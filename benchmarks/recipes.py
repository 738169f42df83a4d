"""What whole recipes reach: results/recipes.json, which their `expect` lines and pages quote.

    python benchmarks/recipes.py yin2021/ecg-bidirectional     # trains it to the end, or goes on where it was
    python benchmarks/recipes.py yin2021/ecg-adlif --run runs/mine

A recipe is trained as `engrax train RECIPE --resume` does; a run that is finished is only read.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from records import ROOT, origin, save

import engrax as ex
from engrax.training import recipe as recipes
from engrax.training.build import build
from engrax.training.stored import write_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--run", type=Path, help="its folder; left out: runs/RECIPE")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "recipes.json")
    options = parser.parse_args()
    folder = options.run or ROOT / "runs" / options.recipe
    report: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    report[options.recipe] = {**figures(options.recipe, folder), **origin("", f"engrax train {options.recipe}")}
    report[options.recipe].pop("what")
    made = (folder / "result.json").stat().st_mtime
    report[options.recipe]["date"] = datetime.date.fromtimestamp(made).isoformat()
    save(options.out, report)
    print(json.dumps(report[options.recipe], indent=1))


def figures(name: str, folder: Path) -> dict[str, Any]:
    """What a finished run says of itself, and the size of its network."""
    recipe = recipes.load(name)
    built = build(recipe)
    if not (folder / "result.json").exists():
        built.fit(out=folder, resume=True)
        write_recipe(folder, recipe)
    found = json.loads((folder / "result.json").read_text())
    if found["interrupted"] or found["steps"] != recipe.training.steps:
        raise SystemExit(f"{folder} holds a run of {found['steps']} steps, the recipe has {recipe.training.steps}.")
    trained = eqx.filter(built.net, ex.trainable_leaves(built.net))
    kept = {n: x for n, x in found.items() if n not in ("run", "interrupted", "recipe")}
    return {"parameters": sum(x.size for x in jax.tree.leaves(trained)), **kept}


if __name__ == "__main__":
    main()
