#!/usr/bin/python3
"""Health check of a container without curl: succeeds if an address answers with 200.

Usage: probe URL. RAY_AUTH_TOKEN, if set, is sent as bearer token.
"""

import os
import sys
import urllib.error
import urllib.request


def main() -> None:
    """Exit with 1 and the error if the request fails."""
    token = os.environ.get("RAY_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # No proxy: the address is in this container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(sys.argv[1], headers=headers), timeout=4):
            pass
    except (OSError, urllib.error.URLError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
