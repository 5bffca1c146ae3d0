#!/usr/bin/env bash
# One short run of every command, with the Python given as the first argument.
set -euo pipefail
python="$1"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
common=(paths.output="$work" trainer=cpu trainer.enable_progress_bar=false debug=fast)
pair=(teacher=resnet8 student=resnet8 student.net.width=0.5)

"$python" -m kd.train "${common[@]}" "${pair[@]}" method=kd
"$python" -m kd.train "${common[@]}" "${pair[@]}" method=at teacher=timm teacher.net.arch=resnet18 \
  "method.taps=[stage1]" "+teacher.taps={stage1: layer1}" data=digits
"$python" -m kd.train -m "${common[@]}" "${pair[@]}" method=ce,fitnet,crd seed=0,1 \
  hydra.sweep.dir="$work/sweep" hydra/launcher=joblib hydra.launcher.n_jobs=2
"$python" -m kd.report sweep="$work/sweep"
"$python" -m kd.chain "${common[@]}" "stages=[resnet14,resnet8]"
"$python" -m kd.search "${common[@]}" "${pair[@]}" search.trials=3
"$python" -m kd.cache paths.output="$work"
"$python" -m kd.methods > /dev/null

# Other tasks
"$python" -m kd.train "${common[@]}" data=text student=transformer_mini_2 method=minilm
"$python" -m kd.train "${common[@]}" data=text student=bert_mini method=kd
"$python" -m kd.train "${common[@]}" data=digits_scenes "data.scenes={train: 64, val: 16, test: 16}"

# After training; the bounds on accuracy are for nets that are trained for longer than two steps.
run="$work/runs/smoke"
"$python" -m kd.train "${common[@]}" "${pair[@]}" method=kd hydra.run.dir="$run"
"$python" -m kd.evaluate run="$run" robustness=false
for format in onnx safetensors; do # torch_export: torch 2.9
  "$python" -m kd.export run="$run" format="$format" latency=false
done
"$python" -m kd.export run="$run" precision=int8 force=true output="$work/int8.onnx"
"$python" -m kd.compress run="$run" max_epochs=1 force=true output="$work/smaller"
"$python" - "$work/image.png" <<'PY'
import sys

from PIL import Image

Image.new("L", (8, 8), 128).save(sys.argv[1])
PY
"$python" -m kd.predict run="$run" images="$work/image.png" teacher=true output="$work/run.csv"
"$python" -m kd.predict run="$work/int8.onnx" images="$work/image.png" output="$work/file.csv"
