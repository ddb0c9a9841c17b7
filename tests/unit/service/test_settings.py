"""Settings: those that the example documents, and those that are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.domain.retention import RunRetention
from service.settings import Settings

EXAMPLE = Path(__file__).parents[3] / ".env.example"


def test_the_example_shows_every_setting() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    documented = {
        line.removeprefix("# ").partition("=")[0] for line in lines if "TANDEM_" in line[:9]
    }

    assert documented == {f"TANDEM_{name.upper()}" for name in Settings.model_fields}


def test_the_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TANDEM_{name.upper()}", raising=False)
    default = Settings()
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("TANDEM_"):
            name, _, value = line.partition("=")
            monkeypatch.setenv(name, value)

    assert Settings() == default


@pytest.mark.parametrize("name", ["admin_token", "viewer_token"])
@pytest.mark.parametrize("text", ["", "secret", "tdm_0123456789_short", "tdw_r1.1." + "x" * 43])
def test_a_given_token_that_is_none_is_refused_and_not_shown(name: str, text: str) -> None:
    with pytest.raises(ValidationError, match=r"docker/new-env\.sh") as refusal:
        Settings(**{name: text})  # type: ignore[arg-type]

    assert not text or text not in str(refusal.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "tandem.example"])
def test_an_address_that_others_reach_is_refused_with_a_way_out(host: str) -> None:
    with pytest.raises(ValidationError, match=r"TANDEM_AUTH=tokens.*tandem tokens create"):
        Settings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_addresses_of_this_machine_are_taken(host: str) -> None:
    assert Settings(host=host).url == f"http://{host}:8700"


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert Settings(host="::1").url == "http://[::1]:8700"


def test_workers_report_to_the_public_address_where_there_is_one() -> None:
    assert Settings().service_url == "http://127.0.0.1:8700"
    assert Settings(auth="tokens", public_url="http://head:8700").service_url == "http://head:8700"


def test_listening_everywhere_needs_an_address_to_report_to() -> None:
    with pytest.raises(ValidationError, match="TANDEM_PUBLIC_URL"):
        Settings(host="0.0.0.0", auth="tokens")

    assert Settings(host="0.0.0.0", auth="tokens", public_url="http://head:8700").host == "0.0.0.0"


@pytest.mark.parametrize("url", ["head:8700", "tandem.lab", "ftp://head", "http://", ""])
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"http://head:8700"):
        Settings(auth="tokens", public_url=url)


def test_a_public_address_of_others_needs_tokens_too() -> None:
    with pytest.raises(ValidationError, match="TANDEM_AUTH=tokens"):
        Settings(public_url="https://tandem.lab")


def test_a_project_keeps_other_things_and_the_rest_as_all_projects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TANDEM_RETENTION_EVENTS_DAYS", "90")
    monkeypatch.setenv("TANDEM_RETENTION_AUDIT_DAYS", "never")
    monkeypatch.setenv(
        "TANDEM_RETENTION_PROJECTS", '{"playground": {"folders_days": 7, "spools_days": "never"}}'
    )

    policy = Settings().retention_policy

    assert policy.audit_days is None
    assert policy.of_project("default") == replace(RunRetention(), events_days=90.0)
    assert policy.of_project("playground") == replace(
        RunRetention(), events_days=90.0, folders_days=7.0, spools_days=None
    )


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "1e9"])
def test_a_number_of_days_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TANDEM_RETENTION_FOLDERS_DAYS", value)

    with pytest.raises(ValidationError, match="retention_folders_days"):
        Settings()


def test_an_unknown_field_of_a_project_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_RETENTION_PROJECTS", '{"playground": {"folder_days": 7}}')

    with pytest.raises(ValidationError, match="folder_days"):
        Settings()
