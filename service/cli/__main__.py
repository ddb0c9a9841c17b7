"""Entry point of `tandem`."""

import sys

from configs import building

if sys.argv[1:2] != ["serve"]:
    # A command uses few of the models that it imports. The service uses all, in many threads.
    building.defer()

from service.cli import main

if __name__ == "__main__":
    main()
