"""What an enhanced DICOM object says of its one frame: in functional groups, where others say it of the object itself.

Source: PS3.3 C.7.6.16.
"""

from __future__ import annotations

from typing import Any, Final

from storyxai.imaging.tags import items

_GROUPS: Final = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MACROS: Final = (
    "PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence", "FramePixelDataPropertiesSequence",
    "FrameDisplayShutterSequence", "PatientOrientationInFrameSequence", "FrameAnatomySequence",
)
"""The groups that hold elements which are read here: scale, window, spacing, shutter, orientation, region."""


def bring_up_frame(header: Any) -> None:
    """Lift what the functional groups of an object of one frame say into `header`, where every reader of elements finds it.

    What is said of the frame goes before what is said of all frames, and this before what the object says of itself.
    """
    for group in _GROUPS:
        for functional in items(header, group)[:1]:
            for macro in _MACROS:
                for item in items(functional, macro)[:1]:
                    header.update(item)
