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
TABLES = (
    ("highdicom._standard_utils", "get_module_attribute_map"), ("highdicom._standard_utils", "get_iod_module_map"),
    ("highdicom._standard_utils", "get_sop_class_iod_map"),
)  # fmt: skip
"""What highdicom reads with its first object and keeps: a second of work and 59 MiB, where a release has it by that name."""

for _name in LATE:
    if find_spec(_name.partition(".")[0]):
        import_module(_name)
for _name, _table in TABLES:
    if find_spec(_name.partition(".")[0]) and find_spec(_name):
        getattr(import_module(_name), _table, lambda: None)()
gc.collect()
gc.freeze()  # a later collection would write to every object, and so copy what the processes share
