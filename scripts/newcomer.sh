#!/usr/bin/env bash
# A newcomer's first ten minutes: clone, train, look, bring data and an environment, deploy; all by README's own text.
#
#   scripts/newcomer.sh [REPOSITORY]     default: the one that this script is in
#
# Code and commands are cut out of README.md and of the pages that it names, and run as they stand there.
set -euo pipefail
source=$(cd "${1:-$(dirname "$0")/..}" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
began=$SECONDS

step() { printf '\n== %3d s  %s\n' "$((SECONDS - began))" "$1"; }

# block PAGE LANGUAGE PATTERN: the first block of that language in which the pattern stands.
block() {
  .venv/bin/python - "$@" <<'PYTHON'
import re
import sys

page, language, pattern = sys.argv[1:]
blocks = re.findall(rf"```{language}\n(.*?)```", open(page, encoding="utf-8").read(), re.DOTALL)
print(next(block for block in blocks if pattern in block))
PYTHON
}

# command PATTERN: the README's command line in which the pattern stands.
command() { grep -m 1 -e "^python -m .*$1" README.md; }

step "clone"
git clone -q "$source" "$place/mmbc_jax"
cd "$place/mmbc_jax"

step "make train"
make train
test -s runs/avoiding_bmd/report.html

step "a smaller run, and a look at it"
. .venv/bin/activate
eval "$(command '--config configs/smoke.py --workdir runs/smoke')"
eval "$(command '--out runs/smoke_evaluated')"
test -s runs/smoke/report.html

step "bring data"
block README.md python my_demos.npz >make_demos.py
python make_demos.py
eval "$(command my_demos.npz)"

step "bring an environment"
block docs/how-to/own-environment.md python 'class Doors' >my_envs.py
eval "$(command my_envs:build)"

step "bring a policy"
block docs/how-to/own-policy.md python 'class GaussianPolicy' >my_policies.py
eval "$(command my_policies:build)"

step "deploy"
block README.md python mmbc_jax.load >deploy.py
echo 'print(chunk)' >>deploy.py
python deploy.py

step "done"
