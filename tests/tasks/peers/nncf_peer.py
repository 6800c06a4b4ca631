"""NNCF on ONNX models. Variants: ptq (post-training quantization, mixed preset: weights symmetric, activations not), accurate
(the same without fast bias correction), int4 (weights in groups of 32, the rest as its defaults)."""
import nncf
import onnx
from onnx import version_converter

from calibration import job


def main():
    task = job()
    model = task.model
    if next(o.version for o in model.opset_import if not o.domain) < 13:
        model = version_converter.convert_version(model, 13)
    dataset = nncf.Dataset(task.feeds)
    if task.variant == "int4":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=32, ratio=1.0, all_layers=True)
    else:
        model = nncf.quantize(model, dataset, preset=nncf.QuantizationPreset.MIXED, subset_size=len(task.feeds),
                              fast_bias_correction=task.variant == "ptq")
    onnx.save(model, task.out)


if __name__ == "__main__":
    main()
