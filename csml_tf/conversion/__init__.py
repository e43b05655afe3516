"""Encoders from PyTorch and back, and to Detectron2."""
