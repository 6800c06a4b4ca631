#!/usr/bin/env bash
# usage: peers.sh DIR : makes in DIR what the peers of aarch64_cost.py need; done once, nothing is installed on this machine.
#   root/     a Python of Debian's arm64 packages, for qemu-aarch64 -L DIR/root
#   site/     the peers' aarch64 wheels
#   convert/  a Python with MNN's and ncnn's converters
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
  tags=()
  for tag in 2_34 2_31 2_28 2_27 2_26 2_24 2_17; do tags+=(--platform "manylinux_${tag}_aarch64"); done
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
    "${tags[@]}" --platform manylinux2014_aarch64 -d wheels numpy==2.4.6 onnxruntime==1.32.0 MNN==3.6.1 ncnn==1.0.20261020
  for w in wheels/*.whl; do python3 -m zipfile -e "$w" site; done
  touch site/done
fi
if [ ! -e convert/done ]; then
  python3 -m venv convert
  convert/bin/pip install -q --disable-pip-version-check numpy==2.4.6 MNN==3.6.1
  # Its program alone: its Python part would bring PyTorch.
  convert/bin/pip install -q --disable-pip-version-check --no-deps pnnx==20261020
  touch convert/done
fi
