"""Documents about a model: every heading stands, every sentence is backed, and what nobody filled says so."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from evidence_example import example_evidence, normal_evidence
from storyxai.errors import UnknownNameError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.evidence.paths import resolve
from storyxai.evidence.record import as_record
from storyxai.pages.story import render_html
from storyxai.programs.export import export_study
from storyxai.story.documents import DOCUMENTS, fill_document, render_document_json, render_document_markdown
from storyxai.story.tell import tell
from storyxai.types import Evidence

ANNEX = (*(f"1({letter})" for letter in "abcdefgh"), *(f"2({letter})" for letter in "abcdefgh"))


@pytest.mark.parametrize("key", DOCUMENTS)
@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence()], ids=["whole", "bare"])
def test_what_is_filled_is_cited_and_what_is_not_says_so(key: str, evidence: Evidence) -> None:
    document, record = fill_document(key, evidence), as_record(evidence)
    told = json.loads(render_document_json(document))
    page = render_document_markdown(document).decode()
    fields = [one for part in told["parts"] for one in part["fields"]]
    assert sum(told["counts"].values()) == len(fields)
    for one in fields:
        assert f"### {one['heading']}\n" in page
        assert (one["status"] == "not_filled") == (not one["sentences"])
        assert one["status"] == "filled" or one["ask"], "who reads it knows what to add"
        assert all(resolve(record, path) is not None for s in one["sentences"] for path in s["cites"])
    assert page.count("**NOT FILLED") == sum(one["status"] != "filled" for one in fields)
    assert "claims no conformity" in page and "Research use only" in page
    assert render_document_markdown(fill_document(key, evidence)).decode() == page, "the same evidence, the same bytes"


def test_annex_iv_has_all_nine_parts_and_the_card_fills_more_of_them_than_nothing() -> None:
    whole, bare = (fill_document("eu-ai-act", evidence) for evidence in (example_evidence(), normal_evidence()))
    assert [part.heading.split(".")[0] for part in whole.parts] == [str(number) for number in range(1, 10)]
    headings = [one.heading for part in whole.parts for one in part.fields]
    assert [re.match(r"\d\(\w\)", heading)[0] for heading in headings if re.match(r"\d\(\w\)", heading)] == list(ANNEX)
    assert whole.counts()["not_filled"] < bare.counts()["not_filled"]
    declaration = next(one for part in whole.parts for one in part.fields if "declaration" in one.heading)
    assert declaration.status == "not_filled" and "no conformity is claimed" in declaration.ask


def test_figures_of_each_finding_and_group_are_told() -> None:
    page = render_document_markdown(fill_document("applied-model-card", example_evidence())).decode()
    record = as_record(example_evidence())
    for group in record["model"]["subgroups"]["sex"]:
        assert f"{group.capitalize()}: mean AUROC" in page or f", {group}: mean AUROC" in page
    assert "AUROC of Effusion is 0.87" in page and "Effusion: sensitivity" in page


def test_a_group_whose_name_holds_numbers_is_told() -> None:
    """As the ages of the shipped card: the numbers are its name, and not a figure that nothing backs."""
    base = example_evidence()
    figures = next(iter(base.model.subgroups["sex"].values()))
    model = dataclasses.replace(base.model, subgroups={"age": {"18-39": figures}})
    page = render_document_markdown(fill_document("eu-ai-act", dataclasses.replace(base, model=model))).decode()
    assert "Age, 18-39: mean AUROC" in page


def test_export_writes_markdown_and_json_of_a_study_that_holds_together(tmp_path: Path) -> None:
    folder = write_archive(example_evidence(), tmp_path / "study")
    kept = read_archive(folder)
    (folder / "auditor.html").write_bytes(render_html(tell(kept, "auditor"), kept))
    done = export_study(folder, tmp_path / "out", to="eu-ai-act")
    assert done.files == ("eu-ai-act.md", "eu-ai-act.json") and "no claim of conformity" in " ".join(done.remarks)
    assert (tmp_path / "out" / "eu-ai-act.md").read_bytes() == render_document_markdown(fill_document("eu-ai-act", kept))
    with pytest.raises(UnknownNameError, match="did you mean 'eu-ai-act'"):
        export_study(folder, tmp_path / "out", to="eu-ai-akt")
