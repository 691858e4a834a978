"""Imported once, by the process that those who tell are forked from: what telling and exporting need beyond it.

Each of them then starts in a moment instead of seconds, and what was imported lies in memory once for all of them.
"""

import gc
from importlib import import_module
from importlib.util import find_spec

from storyxai.node import telling as telling

LATE = (
    "onnxruntime", "scipy.ndimage", "scipy.stats", "scipy.signal", "skimage.measure", "skimage.segmentation", "pydicom.pixels",
    "highdicom", "PIL.JpegImagePlugin", "PIL.PngImagePlugin",
)  # fmt: skip
"""What telling imports only when it is needed."""

for _name in LATE:
    if find_spec(_name.partition(".")[0]):
        import_module(_name)
gc.collect()
gc.freeze()  # a later collection would write to every object, and so copy what the processes share
