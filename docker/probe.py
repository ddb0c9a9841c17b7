#!/usr/bin/python3
"""Whether an address answers 200: the health of a container that has no curl.

probe URL; where RAY_AUTH_TOKEN is set it is shown.
"""

import os
import sys
import urllib.error
import urllib.request


def main() -> None:
    """Say what is wrong, and end with 1."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # Nobody's proxy: what is asked is this container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(sys.argv[1], headers=headers), timeout=4):
            pass
    except (OSError, urllib.error.URLError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
