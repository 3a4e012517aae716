#!/usr/bin/env bash
# From nothing to a policy trained from pixels on this machine, what it can do when sensors fail, and a video of it.
#
#   bash scripts/demo.sh            the floating gripper, in about four minutes on two cores
#   bash scripts/demo.sh FOLDER     where the results go (default: demo in the repository's root); started again, it goes
#                                   on where it stopped
set -euo pipefail
case "${1:-}" in
  "") out=demo ;;
  /*) out="$1" ;;
  *) out="$PWD/$1" ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
began=$SECONDS
. scripts/environment.sh
mkdir -p "$out"

say "1 of 3: training from scratch, with sensor dropout"
if [ -f "$out/run/config.json" ]; then
  "$venv/bin/robofuse" train --resume "$out/run"
else
  "$venv/bin/robofuse" train Grasp --preset quick --out "$out/run"
fi
trained=$SECONDS

say "2 of 3: 60 unseen scenes under every subset of sensors, and with each sensor missing from midway on"
"$venv/bin/robofuse" evaluate "$out/run" --episodes 60 --out "$out/evaluation"

say "3 of 3: a video in which the colour camera fails after 0.5 s"
"$venv/bin/robofuse" replay "$out/run" --disable rgb@10 --episodes 3 --show no --out "$out/replay.mp4"

say "Done in $((SECONDS - began)) s, $((trained - began)) s of them for installation and training"
printf '  %s\n' "$out/run/curve.png          how it learned" \
  "$out/evaluation/heatmap.png   success by which sensors are alive" \
  "$out/replay.mp4             the policy at work without its colour camera"
