"""ONNX Runtime's own quantization. Variants: minmax, entropy, percentile (quantize_static: QDQ, int8 weights per channel, uint8
activations, after its pre-processing); nbits (MatMulNBitsQuantizer: int4 weights of matrix products in blocks of 32)."""
import os

import onnx
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from calibration import job

METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
# Samples whose intermediate values are held at a time.
STRIDE = 4


class Reader(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = feeds
        self.set_range(0, len(feeds))

    def __len__(self):
        return len(self.feeds)

    def set_range(self, start_index, end_index):
        self.left = iter(self.feeds[start_index:end_index])

    def get_next(self):
        return next(self.left, None)


def static(job):
    model = job.model
    if next(o.version for o in model.opset_import if not o.domain) < 13:
        # DequantizeLinear has an axis since version 13.
        model = version_converter.convert_version(model, 13)
    pre = job.out + ".pre.onnx"
    onnx.save(model, pre)
    try:
        quant_pre_process(pre, pre, skip_symbolic_shape=True)
        # The option's name says less than it does: the calibration of every method goes through the samples in strides.
        quantize_static(pre, job.out, Reader(job.feeds), quant_format=QuantFormat.QDQ, per_channel=True,
                        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, calibrate_method=METHODS[job.variant],
                        extra_options={"CalibStridedMinMax": STRIDE})
    finally:
        os.remove(pre)


def nbits(job):
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    quantizer = MatMulNBitsQuantizer(job.model, block_size=32, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(job.out, use_external_data_format=False)


if __name__ == "__main__":
    task = job()
    (nbits if task.variant == "nbits" else static)(task)
