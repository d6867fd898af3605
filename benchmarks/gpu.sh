#!/usr/bin/env bash
# All checks on a GPU, in one command of at most 8 minutes; every stage has its own limit and its own log in $OUT.
#   bash benchmarks/gpu.sh
#   STAGES="env kernel tune" bash benchmarks/gpu.sh
# Without a GPU, every stage runs on small data (limits times SLOW):
#   BENCH_DEVICE=cpu bash benchmarks/gpu.sh
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-/tmp/gpu}; mkdir -p "$OUT"
STAGES=${STAGES:-env compile kernel pytest tune mining photos train embed}
if [ "${BENCH_DEVICE:-cuda}" = cpu ]; then
  SLOW=${SLOW:-5}; TOTAL=${TOTAL:-2400}; COLLECT=--collect-only
  export BENCH_ROWS=${BENCH_ROWS:-2000} BENCH_PHOTOS=${BENCH_PHOTOS:-64} BENCH_SECONDS=${BENCH_SECONDS:-2} BENCH_MODEL=${BENCH_MODEL:-RN50}
fi
TOTAL=${TOTAL:-480}; BEGAN=$SECONDS
PY=${PY:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false WANDB_MODE=offline HF_HUB_OFFLINE=1
export RIG=${RIG:-/tmp/rig}
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv,noheader | tee "$OUT/card.txt"
stage() { # NAME SECONDS COMMAND...
  local name=$1 limit=$(($2 * ${SLOW:-1})) left=$((TOTAL - (SECONDS - BEGAN))) began=$SECONDS; shift 2
  case " $STAGES " in *" $name "*) ;; *) return ;; esac
  [ $left -lt 12 ] && { echo "== $name: no time left"; return; }
  [ "$limit" -gt $left ] && limit=$left
  timeout -k 5 "$limit" "$@" >"$OUT/$name.log" 2>&1; local rc=$?
  echo "== $name: rc $rc, $((SECONDS - began)) s of $limit"; tail -n "${LINES_SHOWN:-14}" "$OUT/$name.log" | cut -c1-220
}
WORKERS=${WORKERS:-$(($(nproc) > 16 ? 16 : $(nproc)))}
CARD=$($PY -c 'import torch; print("".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else 90)')
if [ "${BENCH_DEVICE:-cuda}" = cpu ]; then
  TRAIN="--preset dry --epochs 1"; export RIG_GPU=
else
  TRAIN="--preset vit-b-32 --epochs 3"; export RIG_GPU=0
fi
stage env 40 "$PY" -m benchmarks.gpu env "$OUT"
stage compile 60 "$PY" -m benchmarks.gpu compile --cards "$CARD"
stage kernel 80 "$PY" -m benchmarks.gpu kernel "$OUT"
# shellcheck disable=SC2086  # nothing, or one word
stage pytest 60 "$PY" -m pytest -m gpu ${COLLECT:-} -q -p no:cacheprovider -n0 --maxfail=5 tests/training tests/mining
stage tune 60 "$PY" -m benchmarks.gpu tune "$OUT"
stage mining 150 "$PY" -m benchmarks.gpu mining "$OUT"
stage photos 45 "$PY" -m benchmarks.gpu photos "$OUT"
# shellcheck disable=SC2086  # several words
stage train 110 "$PY" -m benchmarks.training "$RIG" $TRAIN --runs 1 --programs bare_fused ours ours_hard --workers "$WORKERS" --threads 1
stage embed 50 "$PY" -m benchmarks.gpu embed "$OUT"
echo "total $((SECONDS - BEGAN)) s, results in $OUT"
