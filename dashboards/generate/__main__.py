"""Write the dashboards as JSON: `python -m dashboards.generate [FOLDER]`."""

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.generate.fleet import build_fleet_dashboard
from dashboards.generate.frame import build_with_panel_ids
from dashboards.generate.run import build_run_dashboard
from dashboards.generate.sweep import build_sweep_dashboard

_OUTPUT_FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
_DASHBOARDS = {
    "fleet": build_fleet_dashboard,
    "run": build_run_dashboard,
    "sweep": build_sweep_dashboard,
}


def write_dashboards(folder: Path) -> None:
    """Write each dashboard to a JSON file that Grafana provisions."""
    encoder = JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False)
    for name, build in _DASHBOARDS.items():
        text = encoder.encode(build_with_panel_ids(build()))
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    write_dashboards(Path(sys.argv[1]) if len(sys.argv) > 1 else _OUTPUT_FOLDER)
