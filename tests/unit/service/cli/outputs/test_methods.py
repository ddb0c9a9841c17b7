"""Output of `tandem methods`."""

from pathlib import Path

from configs.protocol.methods import MethodCard
from configs.spec.installed_methods import MethodRelease
from service.api.schemas.methods import MethodsView, OwnMethodView
from tests.support.cli.outputs import CommandLine

CARD = MethodCard(
    name="mean_shift",
    title="Mean shift",
    package="tandem-mean-shift",
    release=MethodRelease(version="2", digest="a" * 64, needs=("features",)),
    terms={"weight": "distill_mean_shift"},
    fields={
        "properties": {
            "weight": {"type": "number", "default": 1.0, "description": "Weight of the loss."},
            "levels": {"type": "integer"},
        }
    },
)


def make_view(**changes: object) -> MethodsView:
    own = [OwnMethodView(name="pkd", title="PKD", needs_labels=False)]
    view = MethodsView(own=own, installed=[CARD], problems=[], answer="received", failure=None)
    return view.model_copy(update=changes)


def test_methods(command_line: CommandLine) -> None:
    api = {"GET /v1/methods": make_view()}

    command_line.check("methods_list", "methods", "list", api=api)

    document = command_line.read_json("methods", "list", api=api)
    assert [card["name"] for card in document["installed"]] == ["mean_shift"]


def test_without_an_answer_the_command_that_asks_is_named(command_line: CommandLine) -> None:
    api = {"GET /v1/methods": make_view(installed=[], answer="none")}

    output = command_line.run("methods", "list", api=api)

    assert "`tandem methods list --refresh` asks the workers" in output.text


def test_a_refresh_shows_the_answer(command_line: CommandLine) -> None:
    api = {"POST /v1/methods:refresh": make_view(answer="received")}

    output = command_line.run("methods", "list", "--refresh", api=api)

    assert "mean_shift" in output.text


def test_fields_of_a_method(command_line: CommandLine) -> None:
    api = {"GET /v1/methods": make_view()}

    command_line.check("methods_show", "methods", "show", "mean_shift", api=api)

    assert command_line.read_json("methods", "show", "mean_shift", api=api)["package"]


def test_an_unknown_method_is_refused(command_line: CommandLine) -> None:
    output = command_line.run("methods", "show", "other", api={"GET /v1/methods": make_view()})

    assert output.exit_code == 1
    assert "no method 'other'" in output.text


def test_a_new_package_is_written_once_and_under_a_valid_name(
    command_line: CommandLine, tmp_path: Path
) -> None:
    options = ("--into", str(tmp_path))

    written = command_line.run("methods", "new", "mean_shift", *options)
    again = command_line.run("methods", "new", "mean_shift", *options)
    invalid = command_line.run("methods", "new", "Mean-Shift", *options)

    assert (written.exit_code, again.exit_code, invalid.exit_code) == (0, 1, 1)
    assert "exists already" in again.text
    assert "is no name of a method" in invalid.text
    assert [folder.name for folder in tmp_path.iterdir()] == ["tandem-mean-shift"]
