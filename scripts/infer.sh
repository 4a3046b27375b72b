#!/usr/bin/env bash
# infer.sh MODEL IN OUT [flags of inference.py]
# Translates a picture, or a folder of pictures. MODEL is one of the project's folder pretrained/, where apple2orange means apple2orange.pb,
# or else apple2orange.onnx or apple2orange.tflite; or the path of another one.
# Paths are from where you stand. infer.sh MODEL --help lists the flags.
source "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")/common.sh" || exit
case ${2:-} in
    -h | --help) python inference.py --help ;;
esac
[ $# -ge 3 ] || misuse

model=''
for file in "pretrained/$1.pb" "pretrained/$1.onnx" "pretrained/$1.tflite" "pretrained/$1"; do
    [[ -n $model || -z $1 || $1 == */* || ! -e $file ]] || model=$PROJECT/$file
done
if [[ -z $model ]]; then
    model=$1
    if [[ $1 != */* && ! -e $HERE/$1 ]]; then
        there=''
        for file in pretrained/*.pb pretrained/*.onnx pretrained/*.tflite; do
            [ ! -e "$file" ] || there+=", ${file#pretrained/}"
        done
        there=${there#, }
        fail "$1: no such model in pretrained/, which has ${there:-none}; export.sh makes one, and the path of another will do"
    fi
fi

cd "$HERE"
python "$PROJECT/inference.py" --model="$model" --input="$2" --output="$3" "${@:4}"
