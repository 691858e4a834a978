"""An independent reading of a DICOM radiograph: pydicom's own pixels, tables and windows, and shutters drawn pixel by pixel."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

ROBUST = (0.005, 0.995)


def reference(dataset: Dataset) -> np.ndarray:
    """The picture in [0, 1] as pydicom shows it; without window or table by the robust range. Shapes: float64 [H, W]."""
    # Wider than stored: pydicom subtracts a table's first value in the pixels' own type, where it may overflow.
    stored = dataset.pixel_array.astype(np.int64)
    values = apply_modality_lut(stored, dataset)
    shown = apply_voi_lut(values, dataset).astype(np.float64)
    if "VOILUTSequence" in dataset:
        low, high = 0.0, 2.0 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "WindowWidth" in dataset:
        low, high = _output_range(dataset)
    else:
        padding = stored == dataset.get("PixelPaddingValue", np.iinfo(np.int64).max)
        low, high = np.quantile(shown[~padding], ROBUST, method="inverted_cdf")
    grey = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    return 1 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


def _output_range(dataset: Dataset) -> tuple[float, float]:
    """What pydicom's windowing makes of black and white: the range of the stored values after rescaling."""
    if "ModalityLUTSequence" in dataset:
        return 0.0, 2.0 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    half = 2 ** (dataset.BitsStored - 1)
    ends = np.array([-half, half - 1] if dataset.PixelRepresentation else [0, 2 * half - 1], dtype=np.float64)
    if "RescaleSlope" in dataset and "RescaleIntercept" in dataset:
        ends = ends * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return float(ends[0]), float(ends[1])
