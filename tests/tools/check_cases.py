#!/usr/bin/env python3
"""Compare the result of `mcc verify --json` with a table of cases that are known to fail.

usage: check_cases.py RESULT.json FAILING.txt [--write]

FAILING.txt has a line a case, "KIND/CASE: reason", sorted. A case that fails and is not listed is wrong, and so is one that is
listed and passes: the table says what holds. --write makes the table anew from the result,
and keeps the remark behind a reason's semicolon. The last line counts
"N passed, N failed": a case passes when it does what the table says.
"""
import argparse
import json
import os
import sys


def read_table(path):
    table = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.strip() and not line.startswith("#"):
                    name, _, reason = line.strip().partition(": ")
                    table[name] = reason
    return table


def write_table(path, failing, total):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write("# Cases that do not pass yet, and why: %d of %d. Made by tests/tools/check_cases.py --write.\n"
                % (len(failing), total))
        f.writelines("%s: %s\n" % item for item in sorted(failing.items()))


def reason(case):
    """Kind of the failure, and the first line of mcc's message, without the figures after a semicolon."""
    lines = case.get("reason", "").splitlines() or [""]
    return "%s: %s" % (case.get("kind", "fail"), lines[0].split(";")[0].strip()[:160])


def case_name(folder):
    """Shortens .../node/test_add to node/test_add."""
    return "/".join(os.path.normpath(folder).split(os.sep)[-2:])


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("result")
    ap.add_argument("table")
    ap.add_argument("--write", action="store_true")
    args = ap.parse_args()
    try:
        with open(args.result, encoding="utf-8") as f:
            cases = {case_name(c["case"]): c for c in json.load(f)["cases"]}
    except (OSError, ValueError) as e:
        print("check_cases: %s: %s\n0 passed, 1 failed" % (args.result, e))
        return 1
    failing = {name: reason(c) for name, c in cases.items() if c["status"] != "pass"}
    if args.write:
        remarks = {name: "".join(old.partition(";")[1:]) for name, old in read_table(args.table).items()}
        write_table(args.table, {name: r + remarks.get(name, "") for name, r in failing.items()}, len(cases))
    table = read_table(args.table)
    wrong = []
    wrong += ["fails, not in the table: %s: %s" % (n, failing[n]) for n in sorted(failing.keys() - table.keys())]
    wrong += ["passes, but the table says: %s: %s" % (n, table[n]) for n in sorted(table.keys() & cases.keys() - failing.keys())]
    wrong += ["in the table, but no such case: %s" % n for n in sorted(table.keys() - cases.keys())]
    for line in wrong:
        print(line)
    print("%d of %d cases pass, %d are known to fail" % (len(cases) - len(failing), len(cases), len(table)))
    if wrong:
        print("After an intended change: python tests/tools/check_cases.py %s %s --write" % (args.result, args.table))
    print("%d passed, %d failed" % (len(cases.keys() | table.keys()) - len(wrong), len(wrong)))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
