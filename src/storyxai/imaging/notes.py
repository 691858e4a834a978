"""What reading says of a file: one English text for each code, with places for values; languages word the codes ("remarks")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storyxai.types import Note, Remark, Value

NOTES: Final[Mapping[str, str]] = {
    "note_high_bits": "pixel values are in bits {low} to {high} of their words",
    "note_modality": "modality {modality}: the file does not say that this is a {kind}",
    "note_no_modality": "modality not stated: the file does not say that this is a {kind}",
    "note_exchanged": "rows and columns exchanged: patient orientation",
    "note_upside_down": "turned top to bottom: patient orientation",
    "note_mirrored": "mirrored left to right: patient orientation",
    "note_body_part": "body part: {part}",
    "note_for_processing": "stored for processing: not made for viewing",
    "note_burnt_in": "burnt-in text: the file says that its pixels hold annotation",
    "note_lossy": "lossy compression: fine detail may be lost",
    "note_overlay": "overlay: {count} in the file, not drawn",
    "note_not_square": "pixels are not square: the picture is shown as if they were",
    "note_padding": "padding around the exposed field is shown black",
    "note_robust_range": "scaled by the robust range of its values: no usable window is stated",
    "note_monochrome1": "inverted: MONOCHROME1",
    "note_inverse_lut": "inverted: presentation LUT shape INVERSE",
    "note_both_shapes": "MONOCHROME1 beside the presentation LUT shape IDENTITY: the file contradicts itself",
    "note_lut_and_window": "VOI LUT and window show different pictures: the VOI LUT was used",
    "note_window_empty": "the stated window shows nothing and was left aside",
    "note_window_no_width": "the stated window has no width and was left aside",
    "note_window_narrow": "window narrower than 1: taken as LINEAR_EXACT",
    "note_lut_function": "VOI LUT function unknown: taken as LINEAR",
    "note_lut_bits": "VOI LUT of {held} bits where its descriptor says {stated}: scaled by what it holds",
    "note_lut_entries": "lookup table of {held} entries where its descriptor says {stated}: all of them are used",
    "note_rescale": "rescale slope and intercept cannot be used and were left aside",
    "note_no_length": "pixel data without a stated length: read as plain values",
    "note_view": "view: {view}",
    "note_view_contradicts": "view: the file contradicts itself ({views})",
    "note_view_series": "view {view} from the name of the series or protocol",
    "note_view_study": "view {view} from the name of the study",
    "note_spacing": "pixel spacing without calibration: taken as measured at the detector",
    "note_no_preamble": "no DICOM preamble: read from its first element on",
    "note_encoding": "encoded otherwise than its meta header says: read as {kind}",
    "note_shutter": "shutter ({forms}): {share:.0%} of the picture is covered",
    "note_shutter_form": "shutter ({form}): cannot be drawn as the file gives it, and was left aside",
    "note_shutter_whole": "the shutter would cover all or nearly all of the picture and was left aside",
    "note_exif": "turned as its EXIF orientation {orientation} says",
    "note_transparent": "transparent parts were laid on black",
    "note_colour": "colour: {share:.1%} of the pixels are coloured",
    "note_tinted": "tinted: a picture with a cast of colour may be a photograph of a screen or of a film",
    "note_deep_colours": "16-bit colours: the upper 8 bits of each were read",
    "note_16_bits": "16-bit values were scaled by their robust range",
    "note_deep": "values of more than 8 bits were scaled by their robust range",
    "note_white_zero": "inverted: white was stored as zero",
    "note_jsrt": "raw film of the JSRT set: 12 bits, inverted",
    "note_synthetic": "synthetic: made by storyxai, shows nobody",
}


def note(code: str, **values: Value) -> Note:
    """The note of this code and these values."""
    return Note(NOTES[code].format(**values), Remark(code, values))


def noted(remark: Remark) -> Note:
    """A note as a record holds it: in English where its code is known, in somebody's own words else."""
    if remark.code in NOTES:
        return note(remark.code, **remark.values)
    return Note(str(remark.values.get("text", remark.code)), remark)
