"""Entry point of `tandem`."""

import gc
import sys

from configs import building

_ALLOCATIONS_PER_COLLECTION = 100_000

if sys.argv[1:2] != ["serve"]:
    # A command uses few of the models that it imports. The service uses all, in many threads.
    building.defer()

# Nearly all objects of an import stay until the end; by default Python looks for garbage among them
# about a hundred times.
gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)

# httpx would import the libraries of its own command line, which take longer than httpx itself.
# `None` makes that import fail, which httpx expects.
sys.modules["httpx._main"] = None  # type: ignore[assignment]

from service.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
