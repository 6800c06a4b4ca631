"""Runs a peer on a model inside qemu: once to make it ready, and once between the marks that qemu_blocks.c counts from and to.

usage: guest.py SITE ENGINE MODEL INPUTS.npz OUTPUTS.npz MAPS       (SITE holds the peers' wheels; nothing else is imported)

Each engine uses one thread and its defaults, floats in 32 bits unless its name ends in -f16. MODEL is what engines.py made of the
ONNX file. MAPS becomes /proc/self/maps, which tells what library an address belongs to.
"""
import os
import sys

sys.path.insert(0, sys.argv[1])
import numpy as np  # noqa: E402

COUNT, STOP = -7310001, -7310002


def mark(number):
    try:
        os.close(number)
    except OSError:
        pass


def onnxruntime(model, feeds, _half):
    import onnxruntime as ort
    ort.set_default_logger_severity(3)
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = []

    def run():
        found[:] = session.run(None, feeds)
    return run, lambda: found


def mnn(model, feeds, half):
    import MNN
    types = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int, "int64": MNN.Halide_Type_Int, "uint8": MNN.Halide_Type_Uint8}
    net = MNN.Interpreter(model)
    session = net.createSession({"backend": "CPU", "numThread": 1, "precision": "low" if half else "high"})
    inputs = net.getSessionInputAll(session)
    for name, array in feeds.items():
        net.resizeTensor(inputs[name], tuple(array.shape))
    net.resizeSession(session)
    for name, array in feeds.items():
        # MNN has 32-bit integers only.
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        host = MNN.Tensor(tuple(array.shape), types[str(array.dtype)], array, MNN.Tensor_DimensionType_Caffe)
        inputs[name].copyFrom(host)

    def outputs():
        found = net.getSessionOutputAll(session)
        with open(model + ".outputs", encoding="utf-8") as f:
            names = f.read().splitlines()
        for tensor in (found[n] for n in names):
            shape = tuple(tensor.getShape())
            host = MNN.Tensor(shape, tensor.getDataType(), np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
            tensor.copyToHostTensor(host)
            yield np.array(host.getNumpyData())
    return lambda: net.runSession(session), outputs


def ncnn(model, feeds, half):
    import ncnn as lib
    net = lib.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = net.opt.use_bf16_storage = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = half
    if net.load_param(model + ".param") or net.load_model(model + ".bin"):
        raise RuntimeError("ncnn cannot read its own files")
    mats = [lib.Mat(np.ascontiguousarray(a[0] if a.ndim > 1 and a.shape[0] == 1 else a)).clone() for a in feeds.values()]
    names, found = net.output_names(), []

    def run():
        with net.create_extractor() as ex:
            for name, mat in zip(net.input_names(), mats):
                ex.input(name, mat)
            found[:] = [ex.extract(n)[1] for n in names]
    return run, lambda: [np.array(m) for m in found]


def main():
    engine, model, inputs, outputs, maps = sys.argv[2:]
    name, _, half = engine.partition("-")
    run, results = {"onnxruntime": onnxruntime, "mnn": mnn, "ncnn": ncnn}[name](model, dict(np.load(inputs)), bool(half))
    run()
    mark(COUNT)
    run()
    mark(STOP)
    np.savez(outputs, *results())
    with open("/proc/self/maps", encoding="utf-8") as f, open(maps, "w", encoding="utf-8") as to:
        to.write(f.read())


if __name__ == "__main__":
    main()
