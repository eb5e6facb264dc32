#!/usr/bin/env python3
"""Ask the hello API who it thinks we are, with the key that the environment holds."""

import os
import sys
import urllib.error
import urllib.request

key = os.environ.get("HELLO_API_KEY", "")
url = sys.argv[1] if len(sys.argv) > 1 else "https://api.hello.test/whoami"
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
print(f"the sandbox holds {key!r}")
try:
    with urllib.request.urlopen(request, timeout=30) as answer:
        print(answer.read().decode(errors="replace"))
except urllib.error.HTTPError as error:
    print(error.read().decode(errors="replace"))
    sys.exit(f"refused: {error.code}")
