"""Messages about invalid documents: the field as people write it, and what was meant."""

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from configs.catalog import SpecError, UnknownPreset, load_preset, parse_job, spec_from_preset
from configs.problems import explain_errors, problems_from_validation
from configs.spec.sweep import SweepSpec
from tests.support.factories import make_spec

FIELDS = "student, teacher, distillation, data, schedule, evaluation, seed, compute, checkpoints"
MESSAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a group": (
        {"distilation.loc_weight": 4},
        "distilation",
        "there is no such field; did you mean distillation?",
    ),
    "a field": (
        {"distillation.loc_weigth": 4},
        "distillation.loc_weigth",
        "there is no such field; did you mean distillation.loc_weight?",
    ),
    "a field inside a variant": (
        {"distillation.extra.pkd.weigth": 1},
        "distillation.extra.pkd.weigth",
        "there is no such field; did you mean distillation.extra.pkd.weight?",
    ),
    "a field without its group": (
        {"epochs": 4},
        "epochs",
        "there is no such field; did you mean schedule.epochs?",
    ),
    "a field of two groups": (
        {"batch_size": 4},
        "batch_size",
        "there is no such field; did you mean data.batch_size or evaluation.batch_size?",
    ),
    "a field like no other": (
        {"xyzzy": 4},
        "xyzzy",
        f"there is no such field; the fields are {FIELDS}, "
        "loss_shares_every_steps, resources, teacher_classes, control and tags",
    ),
    "a field like none of its group": (
        {"schedule.policy.qqq": 4},
        "schedule.policy.qqq",
        "there is no such field; schedule.policy has kind and min_lr_ratio",
    ),
    "a field of another kind": (
        {"schedule.policy.milestones": [1]},
        "schedule.policy.milestones",
        "kind cosine does not have this field; step does",
    ),
    "a field of other methods": (
        {"distillation.temperature": 1},
        "distillation.temperature",
        "method bckd does not have this field; logit_kd, ld, cwd, crosskd and fgd do",
    ),
    "two references at once": (
        {"teacher.run": "r" + "0" * 12},
        "teacher.name",
        "cannot be given together with run",
    ),
    "a method": (
        {"distillation.method": "bcdk"},
        "distillation.method",
        "needs to be one of none, bckd, logit_kd, ld, fine_grained, pkd, cwd, crosskd, "
        "dist, mgd, fgd or installed, got 'bcdk'; did you mean bckd?",
    ),
    "a method that is missing": (
        {"distillation": {"loc_weight": 4}},
        "distillation.method",
        "this field is required; it is one of none, bckd, logit_kd, ld, fine_grained, pkd, cwd, "
        "crosskd, dist, mgd, fgd or installed",
    ),
    "a backbone": (
        {"student.backbone.kind": "resnett"},
        "student.backbone.kind",
        "needs to be one of resnet, resnext, mobilenet_v2, swin, efficientnet_lite or csp_darknet, "
        "got 'resnett'; did you mean resnet?",
    ),
    "a value of a set": (
        {"compute.precision": "fp23"},
        "compute.precision",
        "needs to be one of fp32, tf32, bf16 or fp16, got 'fp23'; did you mean fp32?",
    ),
    "a text for a number": (
        {"schedule.epochs": "many"},
        "schedule.epochs",
        "needs a whole number, got 'many'",
    ),
    "a fraction": ({"schedule.epochs": 2.5}, "schedule.epochs", "needs a whole number, got 2.5"),
    "too little": ({"schedule.epochs": 0}, "schedule.epochs", "needs at least 1, got 0"),
    "too much": ({"data.flip": 7}, "data.flip", "needs at most 1.0, got 7"),
    "a value for a group": ({"data": 3}, "data", "needs fields, as in {name: value}, got 3"),
    "nothing for a group": (
        {"schedule": None},
        "schedule",
        "needs fields, as in {name: value}, got null",
    ),
    "a number for a list": (
        {"data.image_size": 96},
        "data.image_size",
        "needs a list, as in [1, 2], got 96",
    ),
    "neither true nor false": (
        {"compute.deterministic": "ye"},
        "compute.deterministic",
        "needs true or false, got 'ye'",
    ),
    "a missing field": (
        {"student.backbone": {"kind": "resnet"}},
        "student.backbone.depth",
        "this field is required",
    ),
    "a beginning of an id": (
        {"teacher": {"run": "r3k9"}},
        "teacher.run",
        "needs the whole id of a run, an r and 12 characters, got 'r3k9'",
    ),
    "a name in capitals": (
        {"data.dataset.name": "Digits"},
        "data.dataset.name",
        "needs a name of at most 63 lower-case letters, digits, '.', '_' and '-', got 'Digits'",
    ),
    "a value's field": (
        {"schedule.epochs.x": 1},
        "schedule.epochs.x",
        "epochs is a plain value and has no fields",
    ),
}


@pytest.mark.parametrize(("changes", "field", "message"), MESSAGES.values(), ids=MESSAGES.keys())
def test_a_mistake_in_a_spec_is_one_problem_in_one_sentence(
    changes: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        spec_from_preset("digits/bckd", changes)

    assert [(p.field, p.message) for p in refusal.value.problems] == [(field, message)]


def test_a_misspelled_required_field_is_one_problem() -> None:
    with pytest.raises(SpecError) as refusal:
        spec_from_preset("digits/bckd", {"data.dataset": {"nme": "digits"}})

    assert [p.field for p in refusal.value.problems] == ["data.dataset.nme"]


def test_every_problem_of_a_job_is_named_without_tags_of_unions() -> None:
    job: dict[str, Any] = {
        "task": "evaluate",
        "model": {"nme": "x"},
        "data": {"dataset": {"name": "x"}, "img": 3},
    }

    with pytest.raises(SpecError) as refusal:
        parse_job(job)

    assert {p.field for p in refusal.value.problems} == {"model.nme", "data.img"}


def test_the_space_of_a_sweep_is_explained_in_place() -> None:
    document = {
        "base": make_spec(),
        "space": {"schedule.epochs": {"kind": "unifrom", "low": 1, "high": 2}},
    }

    with pytest.raises(ValidationError) as exc_info:
        SweepSpec.model_validate(document)

    (problem,) = problems_from_validation(exc_info.value, document, SweepSpec)
    assert problem.field == "space.schedule.epochs.kind"
    assert problem.message.endswith("got 'unifrom'; did you mean uniform?")


def test_a_secret_value_is_not_quoted() -> None:
    class Login(BaseModel):
        port: int
        password: SecretStr

    with pytest.raises(ValidationError) as exc_info:
        Login.model_validate({"port": "hunter2", "password": 3})

    problems = explain_errors(exc_info.value.errors(), None, Login, shows_input=False)
    assert {p.field for p in problems} == {"port", "password"}
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("digits/bkcd", "did you mean digits/bckd?"),
        ("bckd", "did you mean bccd/bckd or digits/bckd?"),
        ("quick/instant-bckd", "did you mean quick/instant_bckd?"),
        ("nothing", "Presets: bccd/baseline"),
    ],
)
def test_an_unknown_preset_is_answered_with_similar_ones_or_with_all(
    name: str, question: str
) -> None:
    with pytest.raises(UnknownPreset) as refusal:
        load_preset(name)

    assert question in str(refusal.value)
