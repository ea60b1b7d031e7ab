#!/usr/bin/env bash
# All measurements that want a GPU, the ones that matter most first, in about nine minutes. What is there is not measured
# again, so that several short calls give the table, too.
# usage: benchmarks/gpu.sh RESULTS [SECONDS]      (from the project's root; SECONDS for this call, default 540)
# Wants torch with CUDA, torchvision, NumPy, pandas, SciPy, pyarrow, OpenCV, pydantic and imgaug; neither Ray nor MLflow.
set -uo pipefail
results=${1:?usage: benchmarks/gpu.sh RESULTS [SECONDS]}
ends=$((SECONDS + ${2:-540}))
python=${PYTHON:-python3}
images=${IMAGES:-/tmp/lchp-benchmark}
mkdir -p "$results"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1

# once NAME LIMIT COMMAND...: runs it unless RESULTS/NAME.done is there or less time is left than 20 s; its failure is
# noted in NAME.failed, and the next call tries it again.
once() {
  local name=$1 limit=$2 left=$((ends - SECONDS)) started=$SECONDS
  shift 2
  [ -e "$results/$name.done" ] && return
  [ "$left" -lt 20 ] && { echo "$name: no time is left"; return; }
  [ "$limit" -gt "$left" ] && limit=$left
  if timeout -k 5 "$limit" "$@" > "$results/$name.log" 2>&1; then
    touch "$results/$name.done" && rm -f "$results/$name.failed"
  else
    echo "exit code $? after $((SECONDS - started)) s; the last lines of $name.log:" > "$results/$name.failed"
    tail -n 25 "$results/$name.log" >> "$results/$name.failed"
  fi
  echo "$name: $((SECONDS - started)) s$([ -e "$results/$name.failed" ] && echo ', FAILED')"
}
train() { # NAME LIMIT OPTIONS...
  local name=$1 limit=$2
  shift 2
  once "$name" "$limit" "$python" benchmarks/training.py --device cuda --out "$results" --images "$images" --name "$name" "$@"
}

nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm,power.draw --format=csv > "$results/nvidia-smi.csv" 2>&1
# Steps that are recorded as one graph, first whether they train as others do.
once recording 60 "$python" -m pytest -q -p no:cacheprovider tests/training/test_recording.py
train graphs 120 --case paper --measure initialization refinement --data held --references --seconds 10 \
  --compute compile=graphs
train steps 180 --case paper --measure initialization refinement --data held --seconds 20
once profile 120 "$python" benchmarks/training.py --device cuda --case paper --images "$images" --profile "$results/profile.txt"
train check 90 --case paper --measure check
train files 170 --case paper --train 1280 --measure initialization refinement --references fp32 --seconds 30
train evaluation 100 --case paper --measure evaluation --seconds 20
train parts 60 --case paper --measure parts
variant() { # NAME KEY=VALUE...: the engine alone, in another `compute`
  local name=$1
  shift
  train "$name" 90 --case paper --measure initialization refinement --data held --references --seconds 10 --compute "$@"
}
variant bf16-maps maps_precision=bf16
variant bf16-deterministic deterministic=true
variant fp32 precision=fp32
once profile-bf16-maps 120 "$python" benchmarks/training.py --device cuda --case paper --images "$images" \
  --compute maps_precision=bf16 --profile "$results/profile-bf16-maps.txt"
# Compiled before the first step, which takes minutes.
train compiled 240 --case paper --measure refinement --data held --references --seconds 10 --compute compile=fused
train mobilenet_224 80 --case mobilenet_224 --data held --seconds 15
once augmentation 40 "$python" benchmarks/augmentation.py --device cuda
once pseudo_boxes 40 "$python" benchmarks/pseudo_boxes.py --device cuda
[ -e "$results/training.md" ] && cat "$results/training.md"
cat "$results"/*.failed 2> /dev/null || true
