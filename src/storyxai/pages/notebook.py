"""What evidence and stories show of themselves in a notebook: a few lines of HTML, without styles of their own page."""

from __future__ import annotations

from storyxai.evidence.record import as_record
from storyxai.pages.figures import pair_png
from storyxai.pages.layout import data_uri, labels_of, render_fragment
from storyxai.pages.tables import PrintedRecord, table_of
from storyxai.pages.views import Block, Chapter, Document, Fold, Listing, Picture, Pictures
from storyxai.types import Evidence, Story

MOST_MAPS = 3
"""A notebook keeps what it shows: no more than so many pictures."""
PICTURE_SIDE_PX = 360


def evidence_html(evidence: Evidence, *, language: str = "en") -> str:
    """The findings as a table, the first maps that passed their checks beside the image, and why others are withheld."""
    record = as_record(evidence)
    labels = labels_of(language, record)
    printed = PrintedRecord(record, labels)
    findings = table_of("findings", printed)
    shown = [h for h in evidence.heatmaps if h.shown][:MOST_MAPS]
    masks = evidence.prediction.masks
    pictures = tuple(
        Picture(
            data_uri(pair_png(evidence.image, h, masks=masks, long_side=PICTURE_SIDE_PX)), "",
            labels.doubtful_of.format(finding=h.finding, method=h.method) if h.doubtful else f"{h.finding}, {h.method}",
        )
        for h in shown
    )
    hidden = [h for h in evidence.heatmaps if not h.shown]
    withheld = tuple(f"{h.finding}, {h.method}: {labels.words.say(*h.withheld_because)}" for h in hidden)
    blocks: list[Block] = [findings] if findings is not None else []
    blocks += [Pictures(pictures)] if pictures else []
    blocks += [Fold(labels.withheld_maps, (Listing(withheld),))] if withheld else []
    study = printed.facts.study
    about = (f"{study.image.source} \u00b7 {study.model_id}",)
    document = Document(labels.evidence, study.study_id, about, (Chapter("", tuple(blocks)),), language)
    return render_fragment("fragment.html", document, language)


def story_html(story: Story) -> str:
    """The story's first section, and the others folded under their headings."""
    labels = labels_of(story.language)
    told = [section for section in story.sections if section.sentences]
    said = [Listing(tuple(sentence.text for sentence in section.sentences)) for section in told]
    folds = [Fold(section.heading, (lines,)) for section, lines in zip(told[1:], said[1:], strict=True)]
    blocks: tuple[Block, ...] = (*said[:1], *folds)
    kind = labels.audiences.get(story.audience, story.audience)
    return render_fragment("fragment.html", Document(kind, story.title, (), (Chapter("", blocks),)), story.language)
