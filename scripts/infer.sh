#!/usr/bin/env bash
# infer.sh NAME IN OUT [flags of inference.py]: translates a picture, or a folder of pictures, with pretrained/NAME.pb.
source "$(dirname "$0")/common.sh"
[ $# -ge 3 ] || fail "infer.sh NAME IN OUT [flags of inference.py], NAME being that of a model, apple2orange or orange2apple say"

python inference.py --model "pretrained/$1.pb" --input "$2" --output "$3" "${@:4}"
