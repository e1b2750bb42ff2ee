"""A checked ONNX graph: loading, tidying and writing it."""
