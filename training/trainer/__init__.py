"""Freshet's training program: a training set in, an ONNX model with its manifest out, by SageMaker's container contract."""
