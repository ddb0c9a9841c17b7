"""The sentences and images on errors that the student has copied from its teacher."""

import pytest

from configs.protocol.comparison import Difference
from configs.protocol.copied_errors import CopiedErrors, CopiedShare
from tests.support.workers.report_inputs import make_run_id, make_run_report
from workers.report.blocks import Gallery, Panels, Paragraph, Photo, Placeholder, Section, Table
from workers.report.plots.images import Photos
from workers.report.sections.copied_errors import copied_errors_section

NO_PHOTOS = Photos((), ())


def make_share(low: float, high: float) -> CopiedShare:
    middle = (low + high) / 2
    return CopiedShare(
        errors=120,
        copied=58,
        baseline_errors=131,
        baseline_copied=41,
        difference=Difference(
            run=0.31 + middle, baseline=0.31, difference=middle, low=low, high=high
        ),
    )


NO_SHARE = CopiedShare(errors=0, copied=0, baseline_errors=9, baseline_copied=3, difference=None)


def build(false_positives: CopiedShare, *, seeds: int = 3, photos: Photos = NO_PHOTOS) -> Section:
    copied = CopiedErrors(
        runs=tuple(make_run_id(number) for number in range(seeds)),
        baselines=tuple(make_run_id(9 + number) for number in range(seeds)),
        false_positives=false_positives,
        missed=NO_SHARE,
    )
    return copied_errors_section(make_run_report(copied_errors=copied), photos)


def first_paragraph(section: Section) -> str:
    assert isinstance(section.blocks[0], Paragraph)
    return section.blocks[0].text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_shares_of_distilled_student_and_student_alone_are_stated() -> None:
    text = first_paragraph(build(make_share(0.09, 0.25), seeds=1))

    assert text.startswith(
        "Of 120 false positives of the distilled student the teacher makes 48 % at the same "
        "position; of the student alone's 131, 31 %."
    )
    assert "+17.0 points [+9.0, +25.0]" in text
    assert "not known from one seed" in text


@pytest.mark.parametrize(
    ("low", "high", "conclusion"),
    [
        (0.09, 0.25, "Distillation copies errors"),
        (-0.25, -0.09, "shares fewer errors"),
        (-0.02, 0.30, "Cannot tell whether distillation copies errors"),
    ],
)
def test_several_seeds_allow_a_conclusion(low: float, high: float, conclusion: str) -> None:
    text = first_paragraph(build(make_share(low, high)))

    assert conclusion in text
    assert "mean over 3 seeds" in text


def test_without_errors_or_detections_the_reason_is_stated() -> None:
    section = build(NO_SHARE)

    assert "has 0 false positives, and the student alone 9" in first_paragraph(section)
    nothing = copied_errors_section(make_run_report(), NO_PHOTOS)
    assert [type(block) for block in nothing.blocks] == [Placeholder]


def test_images_follow_the_table() -> None:
    panels = Panels((Photo("copied-01-truth", b"", "truth: 1 box"),), caption="a.png: a false “7”")

    section = build(make_share(0.09, 0.25), photos=Photos((), (), copied=(panels,)))

    assert any(isinstance(block, Table) for block in section.blocks)
    assert section.blocks[-1] is panels
    assert not any(isinstance(block, Gallery) for block in section.blocks)
