"""The stack of all end-to-end tests by its commands: `tandem up`, `status`, a killed service."""

import os
import signal

import httpx
import pytest

from service.stack.components import ComponentName
from tests.support.stack.shell import Shell

pytestmark = pytest.mark.e2e


def test_a_running_stack_is_complete_and_is_not_started_twice(shell: Shell) -> None:
    started = shell.components()
    assert {part["state"] for part in started.values()} == {"up"}
    assert all(part["memory_bytes"] > 0 and part["uptime_s"] >= 0 for part in started.values())

    again = shell.tandem("up")

    assert again.stdout.count("already up") == len(ComponentName)
    assert {name: part["pid"] for name, part in shell.components().items()} == {
        name: part["pid"] for name, part in started.items()
    }


def test_the_first_example_of_the_api_page_launches(shell: Shell) -> None:
    plan = httpx.post(f"{shell.url}/v1/runs:plan", json={"preset": "quick/instant"})

    # The data of this preset is tiny on purpose.
    findings = {finding["code"]: finding["severity"] for finding in plan.json()["findings"]}
    assert findings == {"class_rarely_validated": "warning", "few_validation_images": "warning"}


def test_an_invalid_value_is_refused_with_its_field(shell: Shell) -> None:
    refused = shell.tandem("run", "quick/instant", "data.flip=7")

    assert refused.returncode == 1
    assert "data.flip" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow  # test_run.py kills the service and starts it again
def test_up_restarts_only_the_component_that_died(shell: Shell) -> None:
    before = shell.components()

    os.kill(before["service"]["pid"], signal.SIGKILL)
    assert shell.components()["service"]["state"] == "dead"
    healed = shell.tandem("up")

    assert healed.returncode == 0, healed.stderr + healed.stdout
    after = shell.components()
    assert after["service"]["state"] == "up"
    assert after["ray"]["pid"] == before["ray"]["pid"]
