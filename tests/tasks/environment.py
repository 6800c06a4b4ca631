"""Virtual environments for scripts whose packages the caller's Python may lack (standard library only)."""
import os
import subprocess
import sys


def pins(requirements):
    """The file's text, and that of the files which it includes."""
    with open(requirements, encoding="utf-8") as f:
        text = f.read()
    included = [line[3:].strip() for line in text.splitlines() if line.startswith("-r ")]
    return "".join([text] + [pins(os.path.join(os.path.dirname(requirements), name)) for name in included])


def made(requirements, folder):
    """The Python of the virtual environment `folder`, made from the file `requirements` unless that is what it was made from."""
    python, stamp = os.path.join(folder, "bin", "python"), os.path.join(folder, "installed")
    want = pins(requirements)
    have = None
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as f:
            have = f.read()
    if have != want:
        print("installing %s into %s" % (os.path.basename(requirements), folder), file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements], check=True)
        with open(stamp, "w", encoding="utf-8") as f:
            f.write(want)
    return python


def enter(script, requirements, folder):
    """Restarts `script`, with this process's arguments, in the virtual environment `folder`, made where it must be; returns
    where the process runs in it already."""
    python = made(requirements, folder)
    if os.path.realpath(sys.prefix) != os.path.realpath(folder):
        os.execv(python, [python, os.path.abspath(script)] + sys.argv[1:])
