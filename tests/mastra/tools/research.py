"""Tells its steps as it goes, one JSON line each; the last line is what it found."""

import json
import sys

args = json.load(sys.stdin)
for step in (1, 2):
    print(json.dumps({"step": step}), flush=True)
print(json.dumps({"found": args["q"]}), flush=True)
