"""The choices of `tandem distill`, against a service without a cluster."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import JsonValue

from configs.protocol.dataset_statistics import RelativeSizes
from service.api.views import to_statistics_view
from service.cli.demo.choices import choose_preset
from service.cli.demo.own_data import (
    ImportChoices,
    TeacherReference,
    build_experiment,
    describe_choices,
    distill,
    find_teacher,
    import_folder,
    read_statistics,
    set_epochs,
)
from service.cli.errors import CliError
from service.cli.session import load_settings
from service.client import TandemClient
from tests.support.dataset_statistics import make_part, make_statistics
from tests.support.factories import (
    CLASSES,
    make_detector_spec,
    make_spec,
    write_checkpoint,
    write_dataset,
)
from tests.support.service.stage import Stage

CHOICE = choose_preset("photos", None)


@pytest.fixture
def client(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[TandemClient]:
    def open_local_client() -> TandemClient:
        return TandemClient("http://localhost", transport=stage.transport)

    monkeypatch.setattr("service.cli.teachers.open_client", open_local_client)
    with open_local_client() as client:
        yield client


def test_without_a_name_the_teacher_of_the_preset_is_trained(client: TandemClient) -> None:
    reference = find_teacher(client, None, CHOICE)

    experiment = build_experiment("photos", CHOICE, reference, {}, None)
    assert experiment.trains_teacher
    assert experiment.teacher_preset == "bccd/teacher"
    assert experiment.changes == {"data.dataset": {"name": "photos"}}


def test_a_registered_teacher_and_a_run_are_taken(client: TandemClient, stage: Stage) -> None:
    stage.add_dataset()
    stage.add_teacher("big")
    run_id = stage.launch(spec=make_spec())["id"]

    by_name = find_teacher(client, "big", CHOICE)
    by_run = find_teacher(client, run_id[:8], CHOICE)

    assert by_name == TeacherReference(name="big")
    assert by_run == TeacherReference(run_id=run_id)
    experiment = build_experiment("photos", CHOICE, by_run, {}, None)
    assert not experiment.trains_teacher
    assert experiment.teacher_reference == {"run": run_id}


def test_a_checkpoint_is_registered_with_the_card_beside_it(
    client: TandemClient, stage: Stage
) -> None:
    file = write_checkpoint(stage.home / "teachers" / "mine.pth")
    detector = make_detector_spec().model_dump(mode="json")
    card = {"name": "mine", "detector": detector, "classes": list(CLASSES)}
    file.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")

    assert find_teacher(client, str(file), CHOICE) == TeacherReference(name="mine")
    assert [teacher.name for teacher in client.teachers()] == ["mine"]


@pytest.mark.parametrize(
    ("teacher", "summary", "advice"),
    [
        ("bog", "There is no teacher, run or file 'bog'", "Registered teachers: big."),
        ("nets/bog.pth", "There is no file nets/bog.pth", "a run, or a checkpoint"),
    ],
)
def test_an_unknown_teacher_is_answered_with_what_there_is(
    client: TandemClient, stage: Stage, teacher: str, summary: str, advice: str
) -> None:
    stage.add_teacher("big")

    with pytest.raises(CliError) as caught:
        find_teacher(client, teacher, CHOICE)

    assert summary in caught.value.error_message.summary
    assert advice in " ".join(caught.value.error_message.advice)


def test_neither_a_folder_nor_a_dataset(client: TandemClient) -> None:
    with pytest.raises(CliError) as caught:
        read_statistics(client, "photos", data="~/photos")

    assert "There is no folder ~/photos, and no dataset" in caught.value.error_message.summary


def test_a_missing_folder_and_a_preset_without_teacher_start_nothing() -> None:
    with pytest.raises(CliError, match=r"There is no folder \./nowhere"):
        distill("./nowhere")
    with pytest.raises(CliError, match="nothing to distill"):
        distill("pets", preset="digits/baseline")


def test_a_folder_with_a_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "pets")

    assert import_folder(folder, "pets", ImportChoices()) == folder


def test_a_folder_that_is_not_understood_says_what_the_command_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "home"))
    load_settings.cache_clear()
    (tmp_path / "notes").mkdir()

    with pytest.raises(CliError) as caught:
        import_folder(tmp_path / "notes", "notes", ImportChoices())

    load_settings.cache_clear()
    assert "--drop-bad, --clip, --val-fraction" in caught.value.error_message.advice[-1]
    assert "Understood are:" in "".join(capfd.readouterr())


def test_a_dataset_without_statistics_keeps_the_presets_image_size(
    client: TandemClient, stage: Stage
) -> None:
    stage.add_dataset()

    assert read_statistics(client, "pets", data="pets") is None


def test_epochs_include_an_evaluation() -> None:
    assert set_epochs({}, CHOICE, None) == {}
    assert set_epochs({}, CHOICE, 1) == {"schedule.epochs": 1, "evaluation.every_epochs": 1}
    assert set_epochs({}, CHOICE, 12) == {"schedule.epochs": 12}
    with pytest.raises(CliError, match="Both --epochs and"):
        set_epochs({"schedule.epochs": 2}, CHOICE, 1)


def test_choices_of_the_import_are_options_of_the_importer() -> None:
    assert ImportChoices().options == []
    assert ImportChoices(drop_bad=True, clip=True, val_fraction=0.3).options == [
        *("--drop-bad", "--clip", "--val-fraction=0.3")
    ]


def test_each_choice_says_how_to_change_it(stage: Stage) -> None:
    experiment = build_experiment("photos", CHOICE, TeacherReference(), {}, None)

    lines = describe_choices(experiment, CHOICE, (0,))

    assert "EfficientNet-Lite2, trained first (bccd/teacher)" in lines["Teacher"]
    options = ("--teacher", "--preset", "data.image_size", "--epochs", "--seeds")
    assert all(option in " ".join(lines.values()) for option in options)
    assert "a verdict needs more" not in describe_choices(experiment, CHOICE, (0, 1))["Seeds"]


def test_the_image_size_of_the_command_line_wins() -> None:
    changes: dict[str, JsonValue] = {"data.image_size": [160, 120]}

    experiment = build_experiment("photos", CHOICE, TeacherReference(), changes, None)

    assert experiment.changes["data.image_size"] == [160, 120]
    assert experiment.image_size is None


def test_few_small_objects_change_image_size_and_epochs_of_all_runs() -> None:
    sizes = (RelativeSizes(image_ratio=0.75, counts={-44: 400}),)
    part = make_part(relative_sizes=sizes, num_images=40)
    view = to_statistics_view("photos", make_statistics(train=part, val=part))

    experiment = build_experiment("photos", CHOICE, TeacherReference(), {}, view)

    assert experiment.changes == {
        "schedule.epochs": 30,
        "data.image_size": [640, 480],
        "data.dataset": {"name": "photos"},
    }
    lines = describe_choices(experiment, CHOICE, (0,))
    assert "640 x 480 px (0 % of the objects are below 8 px; at 320 x 240" in lines["Images"]
    assert lines["Epochs"].startswith("30;")
