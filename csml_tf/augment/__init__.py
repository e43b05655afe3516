"""Stateless augmentations: functions of images and of the uniform numbers drawn for them."""
