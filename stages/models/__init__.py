"""Run networks of the user's on clips: files of TorchScript or ONNX, each in a process of its own."""
