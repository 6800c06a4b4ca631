"""Intel Neural Compressor on ONNX models: static, QDQ, min-max (asking for kl or percentile gives the same model). One variant."""
from neural_compressor import PostTrainingQuantConfig, quantization
from onnx import version_converter

from calibration import job


class Loader:
    batch_size = 1

    def __init__(self, feeds):
        self.feeds = feeds

    def __iter__(self):
        return ((feed, 0) for feed in self.feeds)


def main():
    task = job()
    model = task.model
    if next(o.version for o in model.opset_import if not o.domain) < 13:
        model = version_converter.convert_version(model, 13)
    config = PostTrainingQuantConfig(approach="static", quant_format="QDQ", calibration_sampling_size=[len(task.feeds)])
    done = quantization.fit(model, config, calib_dataloader=Loader(task.feeds))
    if done is None:
        raise SystemExit("Neural Compressor returns no model")
    done.save(task.out)


if __name__ == "__main__":
    main()
