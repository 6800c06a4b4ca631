#!/usr/bin/env bash
# usage: aarch64_onnxruntime.sh DIR : in DIR, a Python of Debian's arm64 packages (root/), ONNX Runtime's aarch64 wheel (site/) and
# run.py MODEL.onnx INPUTS.npz TIMES, to be run by qemu-aarch64 -L DIR/root. Done once; nothing is installed on this machine.
# onnxruntime 1.22.0 is the newest whose wheel starts under qemu 7.2.
set -eu
mkdir -p "$1" && cd "$1"
if [ ! -e root/done ]; then
  # A separate apt configuration, so that the machine's own gets no foreign architecture.
  mkdir -p apt/state/lists/partial apt/cache/archives/partial debs root
  : >apt/status
  own=(-o "Dir::State=$PWD/apt/state" -o "Dir::State::status=$PWD/apt/status" -o "Dir::Cache=$PWD/apt/cache" -o APT::Architecture=arm64
       -o APT::Architectures=arm64 -o APT::Sandbox::User=root)
  apt-get "${own[@]}" update -q >/dev/null
  (cd debs && apt-get "${own[@]}" download -q python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 \
     libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1 >/dev/null)
  for d in debs/*.deb; do dpkg-deb -x "$d" root; done
  touch root/done
fi
if [ ! -e site/done ]; then
  python3 -m pip download -q --disable-pip-version-check --only-binary=:all: --python-version 3.11 --implementation cp --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 -d wheels onnxruntime==1.22.0 'numpy<2.5'
  for w in wheels/*.whl; do python3 -m zipfile -e "$w" site; done
  touch site/done
fi
cat >run.py <<'P'
import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"))
import numpy as np
import onnxruntime as ort
ort.set_default_logger_severity(3)
model, inputs, times = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
feeds = dict(np.load(inputs))
for _ in range(int(times)):
    session.run(None, feeds)
P
