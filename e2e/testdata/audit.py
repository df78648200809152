"""Checks an exported audit log as docs/audit-log.md describes it, knowing nothing else.

    python3 audit.py ORGANIZATION < audit-log.jsonl

prints the sequence number and the chain value of the last entry.
"""

import hashlib
import json
import re
import sys

MEMBERS = ["format", "organization", "sequence", "time", "event", "actor", "object", "data"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


def main(organization):
    chain = hashlib.sha256(b"\x03" + b"countersign-audit-v1" + organization.encode()).digest()
    sequence = 0
    for line in sys.stdin.buffer:
        if not line.endswith(b"\n"):
            sys.exit(f"the export breaks off after entry {sequence}")
        leaf = line[:-1]
        entry = json.loads(leaf)
        sequence += 1
        members = list(entry)
        if members not in (MEMBERS, MEMBERS[:-1]):
            sys.exit(f"entry {sequence} has the members {members}")
        if entry["format"] != 1 or entry["organization"] != organization or entry["sequence"] != sequence:
            sys.exit(f"entry {sequence} is {entry['sequence']} of {entry['organization']}, format {entry['format']}")
        if not TIME.fullmatch(entry["time"]) or not entry["event"] or not entry["actor"]["kind"] or not entry["object"]["type"]:
            sys.exit(f"entry {sequence} is incomplete")
        leaf_hash = hashlib.sha256(b"\x00" + leaf).digest()
        chain = hashlib.sha256(b"\x02" + chain + leaf_hash).digest()
    print(sequence, chain.hex())


main(sys.argv[1])
