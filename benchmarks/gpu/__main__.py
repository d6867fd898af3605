"""Checks of the GPU path: `compile` without a GPU, the stages of gpu.sh with one.

python -m benchmarks.gpu compile                        # the kernels for every card, by the installed Triton
python -m benchmarks.gpu compile --triton FOLDER        # and by another one:
    pip download triton==3.6.0 --no-deps && unzip -q triton-3.6.0-*.whl -d FOLDER
bash benchmarks/gpu.sh                                  # all stages, at most 8 minutes
"""

import argparse
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

STAGES = {"env": "kernels", "kernel": "kernels", "tune": "kernels", "mining": "search"}
STAGES |= {"photos": "pictures", "embed": "pictures"}  # stage -> module


def compile_all(dtypes: list[str], capabilities: list[int]) -> int:
    """Print the table of docs/scale.md; the number of kernels that should not be launched."""
    import triton

    from benchmarks.gpu.compiled import SHARED, WIDTHS, cases, compile_case, usage

    print(f"Triton {triton.__version__}, widths {', '.join(WIDTHS)}: the worse of both\n")
    print("| card | kernel | registers | stack, B | shared, KB (limit) | tensor-core | copies |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    wrong: list[str] = []
    for capability in capabilities:
        for several in zip(*(cases(capability, d, w) for d in dtypes for w in WIDTHS.values()), strict=True):
            try:
                found = [usage(compile_case(case, capability)) for case in several]
            except Exception as error:  # the compiler's errors share no base
                wrong.append(f"sm_{capability} {several[0].name}: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            wrong += [
                f"sm_{capability} {case.name}: {problem}"
                for case, use in zip(several, found, strict=True)
                for problem in use.problems(case, capability)
            ]
            worst = [max(getattr(use, name) for use in found) for name in ("registers", "stack", "shared")]
            least = [min(getattr(use, name) for use in found) for name in ("tensor_cores", "copies")]
            limit = SHARED[capability]
            print(
                f"| sm_{capability} | {several[0].name} | {worst[0]} | {worst[1]} | {worst[2] / 1024:.0f} ({limit}) |"
                f" {least[0]} | {least[1]} |",
                flush=True,
            )
    print("\n" + ("\n".join(wrong) or "every kernel compiles, and none spills in a loop"))
    return len(wrong)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("compile", *STAGES))
    parser.add_argument("out", nargs="?", type=Path, default=Path("/tmp/gpu"), help="folder of a stage's results")
    parser.add_argument("--triton", type=Path, help="folder of an unpacked wheel to compile with as well")
    parser.add_argument("--dtypes", nargs="*", default=["fp16", "bf16"])
    parser.add_argument("--cards", nargs="*", type=int, help="such as 80 90; default: all that this Triton knows")
    args = parser.parse_args()
    if args.what != "compile":
        from benchmarks.gpu.notes import Notes

        module = import_module(f"benchmarks.gpu.{STAGES[args.what]}")
        getattr(module, args.what)(Notes(args.what, args.out))
        return
    from benchmarks.gpu.compiled import CAPABILITIES

    wrong = compile_all(args.dtypes, args.cards or list(CAPABILITIES))
    if args.triton:
        paths = [str(args.triton), os.getcwd(), os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, "-m", "benchmarks.gpu", "compile", "--dtypes", *args.dtypes]
        command += ["--cards", *map(str, args.cards)] if args.cards else []
        wrong += subprocess.run(command, env={**os.environ, "PYTHONPATH": ":".join(paths)}).returncode
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
