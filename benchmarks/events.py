"""A training step by products that skip zeros against the same step by plain products, in turn, in one run.

    python benchmarks/events.py                   # three minutes; nothing else should run meanwhile

By BPTT and by offline e-prop, on the workloads of `engrax bench`.
"""

import argparse
from pathlib import Path

from records import ROOT, origin, save
from turns import compare

from engrax.bench.candidate import Variant
from engrax.bench.workload import WORKLOADS

SETTINGS = {"dense": {"ENGRAX_EVENTS": "off"}, "events": {"ENGRAX_EVENTS": "auto"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "events.json")
    options = parser.parse_args()
    found = {}
    for workload in WORKLOADS:
        for variant in (Variant("bptt"), Variant("eprop", "offline")):
            case = f"{workload} {variant.rule} {variant.evaluation}"
            found[case] = compare(workload, variant, SETTINGS, options.repeats)
            print(case, found[case], flush=True)
    save(
        options.out,
        {**origin("training steps by products that skip zeros", "python benchmarks/events.py"), "cases": found},
    )


if __name__ == "__main__":
    main()
