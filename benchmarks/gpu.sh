#!/usr/bin/env bash
# All measurements that want a GPU, the ones that matter most first, as many as fit into SECONDS. What is there is not
# measured again: the next call goes on with what is missing.
# usage: benchmarks/gpu.sh RESULTS [SECONDS]      (from the project's root; SECONDS for this call, default 540)
# Wants torch with CUDA, torchvision, NumPy, pandas, SciPy, pyarrow, OpenCV, pydantic, imgaug and, for the tests, pytest
# and hypothesis; neither Ray nor MLflow.
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

test_of() { # NAME LIMIT FILES...
  local name=$1 limit=$2
  shift 2
  once "$name" "$limit" "$python" -m pytest -q -rs -p no:cacheprovider "$@"
}

# Tests skip without a device, and would seem to have passed.
"$python" -c 'import torch; assert torch.cuda.is_available()' || { echo "torch finds no CUDA device here"; exit 1; }
nvidia-smi --query-gpu=name,memory.total,driver_version,clocks.sm,power.draw --format=csv > "$results/nvidia-smi.csv" 2>&1

variant() { # NAME LIMIT KEY=VALUE...: the engine alone, in another `compute`
  local name=$1 limit=$2
  shift 2
  train "$name" "$limit" --case paper --measure initialization refinement --data held --references --seconds 10 --compute "$@"
}

# What no GPU has shown yet (results/gpu.md), first whether recorded and compiled steps train as others do.
test_of recording 240 tests/training/test_recording.py
# Image files against images on the device: what waiting for data costs.
train files 170 --case paper --train 1280 --measure refinement initialization --references fp32 --seconds 25 \
  --compute compile=graphs
once rejected 50 "$python" benchmarks/rejected.py --device cuda --case paper --compute precision=bf16 compile=graphs
once predict 60 "$python" benchmarks/predicting.py --device cuda --case paper --images "$images" --compute precision=bf16
# Compiled before the first step, which takes minutes; torch keeps that for later processes.
variant fused-bf16-maps 420 compile=fused maps_precision=bf16

# What an older commit has shown, and the rest.
test_of device 90 tests/training/test_waiting.py tests/training/test_synchronisation.py tests/training/test_feeding.py \
  tests/method/test_augmentation.py tests/method/test_pseudo_boxes.py
train evaluation 80 --case paper --measure evaluation --seconds 15
train check 80 --case paper --measure check
variant graphs 120 compile=graphs
variant fused 420 compile=fused
train steps 180 --case paper --measure initialization refinement --data held --seconds 20
once profile 120 "$python" benchmarks/training.py --device cuda --case paper --images "$images" --profile "$results/profile.txt"
once profile-fused 240 "$python" benchmarks/training.py --device cuda --case paper --images "$images" \
  --compute compile=fused --profile "$results/profile-fused.txt"
train parts 60 --case paper --measure parts
variant bf16-maps 90 maps_precision=bf16
variant bf16-deterministic 90 deterministic=true
variant fp32 90 precision=fp32
once profile-bf16-maps 120 "$python" benchmarks/training.py --device cuda --case paper --images "$images" \
  --compute maps_precision=bf16 --profile "$results/profile-bf16-maps.txt"
train mobilenet_224 80 --case mobilenet_224 --data held --seconds 15
once augmentation 40 "$python" benchmarks/augmentation.py --device cuda
once pseudo_boxes 40 "$python" benchmarks/pseudo_boxes.py --device cuda
[ -e "$results/training.md" ] && cat "$results/training.md"
cat "$results"/*.failed 2> /dev/null || true
