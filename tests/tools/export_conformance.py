#!/usr/bin/env python3
"""Write the ONNX backend test suite of the installed `onnx` package as plain files.

usage: export_conformance.py OUT_DIR

OUT_DIR/KIND/CASE/{model.onnx, tolerance, test_data_set_N/{input,output}_M.pb} with the kinds node, simple,
pytorch-operator and pytorch-converted. `tolerance` holds "RTOL ATOL", the case's own; a case without the file
has the defaults. A .pb file is a TensorProto, or a SequenceProto or OptionalProto where the graph's
input or output is of that type. OUT_DIR/VERSION names the version of onnx; when it is the installed one, nothing is done.
Needs onnx and numpy, about 10 s.
"""
import os
import shutil
import sys
import warnings

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

STORED_KINDS = ("simple", "pytorch-operator", "pytorch-converted")


def to_proto(value):
    if isinstance(value, onnx.TensorProto):
        return value
    if isinstance(value, (list, tuple)):
        return numpy_helper.from_list(list(value))
    if isinstance(value, dict):
        return numpy_helper.from_dict(value)
    if value is None:
        return numpy_helper.from_optional(None)
    return numpy_helper.from_array(np.asarray(value))


def write_case(case, folder):
    for k, data_set in enumerate(case.data_sets):
        path = os.path.join(folder, "test_data_set_%d" % k)
        os.makedirs(path)
        for side, values in zip(("input", "output"), data_set):
            for j, value in enumerate(values):
                with open(os.path.join(path, "%s_%d.pb" % (side, j)), "wb") as f:
                    f.write(to_proto(value).SerializeToString())
    onnx.save(case.model, os.path.join(folder, "model.onnx"))
    with open(os.path.join(folder, "tolerance"), "w", encoding="ascii") as f:
        f.write("%g %g\n" % (case.rtol, case.atol))


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    out = sys.argv[1]
    stamp = os.path.join(out, "VERSION")
    if os.path.exists(stamp) and open(stamp, encoding="ascii").read().strip() == onnx.__version__:
        return 0
    if os.path.exists(stamp):
        shutil.rmtree(out)
    elif os.path.isdir(out) and os.listdir(out):
        print("export_conformance: %s is neither empty nor an earlier export" % out, file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")      # some cases overflow on purpose
    for case in collect_testcases(None):
        write_case(case, os.path.join(out, case.kind, case.name))
    data = os.path.join(os.path.dirname(onnx.backend.test.__file__), "data")
    for kind in STORED_KINDS:
        shutil.copytree(os.path.join(data, kind), os.path.join(out, kind), dirs_exist_ok=True)
    with open(stamp, "w", encoding="ascii") as f:
        f.write(onnx.__version__ + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
