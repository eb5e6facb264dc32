#!/usr/bin/env python3
"""Write a greeting into the workspace and show it."""

import os
import platform
from pathlib import Path

greeting = os.environ.get("HELLO_GREETING", "Hello")
text = f"{greeting}, written on Linux {platform.release()}\n"
Path(__file__).with_name("greeting.txt").write_text(text)
print(text, end="")
