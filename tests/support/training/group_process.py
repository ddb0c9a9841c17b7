"""One process of a gloo process group that trains a run, as a cluster would start it."""

import os
import sys
from pathlib import Path

import yaml

from configs.catalog import parse_spec
from configs.protocol.names import RunFile

if __name__ == "__main__":
    spec_file, run_dir, attempt = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from torch import distributed

    from workers.process import compat

    compat.apply_patches()
    from workers.attempt.stop import Termination
    from workers.jobs.train import train
    from workers.telemetry.identity import AttemptIdentity

    distributed.init_process_group("gloo")
    spec = parse_spec(yaml.safe_load(spec_file.read_text()))
    if distributed.get_rank() == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / RunFile.SPEC).write_text(spec.model_dump_json())
    distributed.barrier()
    termination = Termination()
    termination.install()
    identity = AttemptIdentity(run_id=run_dir.name, attempt=attempt)
    code = train(spec, identity=identity, run_dir=run_dir, termination=termination)
    distributed.destroy_process_group()
    sys.exit(code)
