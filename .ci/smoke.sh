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
