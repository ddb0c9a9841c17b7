"""Entry point of `tandem`."""

import sys

from configs import building

if sys.argv[1:2] != ["serve"]:
    # A command uses few of the models that it imports. The service uses all, in many threads.
    building.defer()

# httpx would import the libraries of its own command line, which take longer than httpx itself.
# `None` makes that import fail, which httpx expects.
sys.modules["httpx._main"] = None  # type: ignore[assignment]

from service.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
