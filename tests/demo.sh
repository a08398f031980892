#!/bin/sh
# What `make demo` shows: a digit classifier from nothing. Everything goes into the folder given as $1.
set -eu
out=${1:-demo}
here=$(dirname "$0")

say() { printf '\n$ %s\n' "$*"; "$@"; }

say cnn train lenet5 --epochs 20 --out "$out/run" --overwrite
say cnn eval "$out/run" --out "$out/eval" --overwrite
say cnn report "$out/run" --overwrite
say cnn shape "$out/run"
say cnn visualize filters "$out/run" --out "$out/filters" --overwrite
python "$here/demo_images.py" "$out/images"
say cnn predict "$out/run" "$out/images" --top 3

cat <<END

The model:            $out/run/best.safetensors
Its training curves:  $out/run/curves.png
Its confusions:       $out/eval/confusion.png
Its first filters:    $out/filters/filters.png
All about it:         $out/run/report.html (open it in a browser)
The test images:      $out/images/

Try next: cnn shape alexnet
END
