"""Run the trainings of the study that have no result yet.

    python -m experiments.hard_batches.run --data data/icons --processes 2

Stages: selection (val alone), final (the arms that val chose and their controls), surface and saturation, advice (on
settings that the rule of `advise` has not seen), emoji, and the outer point of the surface. Existing results are kept,
so the same command continues after an interruption. Each training by train.py runs in its own process, forked after the
imports, and writes one result file.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from experiments.hard_batches import measure
from experiments.hard_batches.arms import (
    BASES,
    L_ARMS,
    M_ARMS,
    MODEL,
    PLACEBO,
    TRIALS,
    Recipe,
    Run,
    advice,
    emoji,
    final,
    outer,
    saturation,
    selection,
    surface,
)
from helip.artifacts.atomic import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CHOICE = HERE / "choice.json"
STAGES = ("selection", "final", "surface", "advice", "emoji", "outer")


def result_file(run: Run) -> Path:
    return RESULTS / run.stage / f"{run.key}.json"


def train(run: Run, folder: Path, data: Path) -> None:
    """Run one training in this process; its output goes to console.txt in the run's folder."""
    from helip.cli import launch

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "console.txt", "w") as console:
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
        os.environ["HELIP_DATA"] = str(data.parent)
        sys.argv = ["train.py", *run.overrides, f"hydra.run.dir={folder}", "train.resume=auto"]
        launch("train")


@cache
def start_features(base: str, data: Path, part: str) -> tuple[Any, Any]:
    """Embeddings of a part by a starting checkpoint."""
    clip = measure.create_clip(measure.ModelSpec(MODEL, str(BASES[base])))
    return measure.features(clip, measure.read_part(data / measure.SHARDS[part]))


def finish(run: Run, folder: Path, data: Path) -> dict[str, Any]:
    """The content of the result file: settings, the last logged step, and the measured parts."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    names, *lines = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    logged: dict[str, float] = {}
    for line in lines:
        logged |= {n: float(v) for n, v in zip(names.split(","), line.split(","), strict=True) if v}
    weights = str(folder / "final.pt")
    return {
        "arm": run.arm,
        "base": run.base,
        "batch": run.batch,
        "rows": run.rows,
        "seed": run.seed,
        "recipe": list(run.recipe),
        "overrides": [part for part in run.overrides if "pretrained" not in part],
        "commit": results["commit"],
        "steps": results["steps"],
        "last_log": {name.removeprefix("train/"): v for name, v in logged.items() if name.startswith("train/")},
        "metrics": results["metrics"]["after"],
        "parts": {
            part: measure.measure(MODEL, weights, data, part, start_features(run.base, data, part))
            for part in run.parts
        },
    }


def job(run: Run, runs: Path, data: Path) -> None:
    """Train, measure and write the result."""
    began = time.perf_counter()
    torch.set_num_threads(1)
    folder = (runs / run.stage / run.key).absolute()
    if not (folder / "results.json").is_file():
        train(run, folder, data)
    trained = time.perf_counter() - began
    write_json(result_file(run), finish(run, folder, data) | {"seconds": round(trained, 1)})


def run_all(runs: Sequence[Run], folder: Path, data: Path, processes: int) -> None:
    """Run those without a result in order, several at a time.

    Raises:
        SystemExit: one of them failed; its console.txt says why.
    """
    context = multiprocessing.get_context("fork")
    waiting = [run for run in runs if not result_file(run).is_file()]
    print(f"{len(waiting)} of {len(runs)} runs are missing", flush=True)
    active: dict[Any, Run] = {}
    while waiting or active:
        while waiting and len(active) < processes:
            run = waiting.pop(0)
            process = context.Process(target=job, args=(run, folder, data))
            process.start()
            active[process] = run
        time.sleep(0.5)
        for process in [process for process in active if not process.is_alive()]:
            run = active.pop(process)
            if not result_file(run).is_file():
                raise SystemExit(f"{run.stage}/{run.key} failed: see console.txt in its folder")
            print(f"{time.strftime('%H:%M:%S')} {run.stage} {run.key}", flush=True)


def choose() -> dict[str, Recipe]:
    """Write choice.json: the best trial of each arm by recall@1 on val, and the pick of each family."""
    found: dict[str, list[float]] = {}
    for arm, trials in TRIALS.items():
        runs = [run for run in selection() if run.arm.rpartition(".")[0] == arm]
        results = [json.loads(result_file(run).read_text(encoding="utf-8")) for run in runs]
        found[arm] = [result["parts"]["val"]["recall@1"] for result in results]
        assert len(found[arm]) == len(trials)
    best = {arm: max(range(len(values)), key=values.__getitem__) for arm, values in found.items()}
    picks = {name: max(arms, key=lambda arm: found[arm][best[arm]]) for name, arms in (("L", L_ARMS), ("M", M_ARMS))}
    recipes = {arm: TRIALS[arm][number] for arm, number in best.items()}
    write_json(CHOICE, {"val": found, "trial": best, "picks": picks, "recipes": recipes})
    return recipes | {name: recipes[arm] for name, arm in picks.items()}


def controls(chosen: dict[str, Recipe]) -> dict[str, Recipe]:
    """The placebo of M, and the controls of L where it is the similarity margin."""
    wanted = {"placebo": (*chosen["M"], *PLACEBO)}
    if "helip.margin=similarity" in chosen["L"]:
        wanted["permuted"] = (*chosen["L"], "helip.margin.permuted=true")
    return wanted


def checkpoints(data: Path) -> None:
    """Measure the starting checkpoints on all parts.

    Raises:
        SystemExit: a checkpoint is missing.
    """
    for base, weights in BASES.items():
        if not weights.is_file():
            raise SystemExit(f"{weights} is missing: experiments/hard_batches/README.md says how it is made")
        file = RESULTS / "checkpoints" / f"{base}.json"
        if not file.is_file():
            parts = {part: measure.measure(MODEL, str(weights), data, part) for part in measure.SHARDS}
            write_json(file, {"base": base, "parts": parts})


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the trainings of the study that have no result yet.")
    parser.add_argument("--data", type=Path, default=Path("data/icons"), help="output of experiments/icons/build.py")
    parser.add_argument("--runs", type=Path, default=Path("runs/hard_batches"), help="folder of the trainings")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage")
    asked = parser.parse_args()

    def go(runs: Sequence[Run]) -> None:
        run_all(runs, asked.runs, asked.data.absolute(), asked.processes)

    go(selection())
    chosen = choose()
    three = {name: chosen[name] for name in ("off", "L", "M")}
    stages: dict[str, Callable[[], Sequence[Run]]] = {
        "final": lambda: final(three | {"random": chosen["random"]}, controls(chosen)),
        "surface": lambda: [*surface(three), *saturation(three)],
        "advice": lambda: advice(three),
        "emoji": lambda: emoji(three),
        "outer": lambda: outer(three),
    }
    checkpoints(asked.data)
    for stage in STAGES[1 : STAGES.index(asked.until) + 1]:
        go(stages[stage]())


if __name__ == "__main__":
    main()
