"""The walls of the house: who may include whom, where a library's header may appear, how long things may get.

DESIGN: config, queue, dns and tls know nothing of each other and nothing of mta; arrows point down only.
"""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

MAIL = ("mta/base", "mta/smtp", "mta/mail")
LIBRARIES = ("config", "dns", "tls", "queue")
# folder -> folders of ours that it may include, beside itself
ARROWS = {
    "config": (), "dns": (), "tls": (), "queue": (),
    "mta/base": (),
    "mta/smtp": ("mta/base",),
    "mta/mail": ("mta/base",),
    "mta/net": ("mta/base", "tls"),
    "mta/auth": ("mta/base",),
    "mta/submit": MAIL + ("mta/net", "mta/auth", "config", "queue", "tls"),
    "mta/deliver": MAIL + ("mta/net",) + LIBRARIES,
    "mta/control": ("mta/base", "mta/net", "config", "queue"),
    "mta/sendmail": MAIL + ("config",),
    "mta/mtactl": ("mta/base", "mta/auth", "config", "queue"),
    "mta": MAIL + ("mta/net", "mta/submit", "mta/deliver", "mta/control") + LIBRARIES,
}
# library header -> the one folder that may know it
ONLY_PLACE = {r"yaml\.h": "config", r"ares.*\.h": "dns", r"gnutls/.*": "tls", r"lmdb\.h": "queue",
              r"microhttpd\.h": "mta/control", r"gsasl\.h": "mta/auth", r"crypt\.h": "mta/auth"}
FORBIDDEN = re.compile(r"\b(sprintf|vsprintf|strcpy|strcat|strncpy|strtok|atoi|atol|rand|alloca)\s*\(")

FUNCTION_LINES, FILE_LINES, HEADER_LINES = 70, 650, 250
# Flat tables and contracts that are longer for a reason.
LONG_FUNCTIONS = ()
LONG_FILES = ("queue/queue.h",)


def sources(folder, *suffixes):
    found = [path for path in sorted((ROOT / folder).iterdir()) if path.suffix in suffixes]
    return [str(path.relative_to(ROOT)) for path in found]


def folder_of(name):
    return str(pathlib.PurePath(name).parent)


def includes(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', text, re.MULTILINE)


@pytest.mark.parametrize("folder", ARROWS)
def test_includes_follow_the_arrows(folder):
    wrong = []
    for name in sources(folder, ".c", ".h"):
        for quote, target in includes(name):
            owner = folder_of(target)
            if quote == '"' and owner != folder and owner not in ARROWS[folder]:
                wrong.append(f"{name}: {target}")
            for pattern, place in ONLY_PLACE.items():
                if quote == "<" and re.fullmatch(pattern, target) and folder != place:
                    wrong.append(f"{name}: {target}")
    assert not wrong


@pytest.mark.parametrize("folder", ARROWS)
def test_each_header_compiles_alone(folder):
    faults = []
    for name in sources(folder, ".h"):
        done = subprocess.run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                               "-I", str(ROOT), "-x", "c", "-"], input=f'#include "{name}"\n'.encode(),
                              capture_output=True, timeout=60)
        if done.returncode:
            faults.append(done.stderr.decode())
    assert not faults


def long_functions(lines):
    start = title = None
    for number, line in enumerate(lines, 1):
        if re.match(r"[A-Za-z_].*\(", line) and not line.rstrip().endswith(";"):
            start, title = number, line.split("(")[0].split()[-1].lstrip("*")
        elif line.startswith("}") and start:
            if number - start + 1 > FUNCTION_LINES and title not in LONG_FUNCTIONS:
                yield f"{title}: {number - start + 1} lines, at most {FUNCTION_LINES}"
            start = None


@pytest.mark.parametrize("folder", ARROWS)
def test_sizes_and_forbidden_calls(folder):
    faults = []
    for name in sources(folder, ".c", ".h"):
        lines = (ROOT / name).read_text(encoding="utf-8").split("\n")
        limit = HEADER_LINES if name.endswith(".h") else FILE_LINES
        if len(lines) > limit and name not in LONG_FILES:
            faults.append(f"{name}: {len(lines)} lines, at most {limit}")
        faults += [f"{name}: {fault}" for fault in long_functions(lines)]
        for number, line in enumerate(lines, 1):
            code = re.sub(r'"(\\.|[^"\\])*"|/\*.*?\*/|//.*', "", line)
            if FORBIDDEN.search(code) and not line.lstrip().startswith(("*", "/*")):
                faults.append(f"{name}:{number}: {line.strip()}")
    assert not faults


def test_every_folder_has_a_readme_of_at_most_a_screen():
    faults = []
    for folder in ARROWS:
        readme = ROOT / folder / "README.md"
        if not readme.exists():
            faults.append(f"{folder}: no README.md")
        elif len(readme.read_text(encoding="utf-8").split("\n")) > 70:
            faults.append(f"{folder}/README.md is longer than a screen")
    assert not faults


def test_every_module_of_the_libraries_has_a_test():
    """A folder without any unit test would go unnoticed otherwise."""
    tested = {path.name.split("_")[1] for path in (ROOT / "tests/unit").glob("test_*_*.c")}
    untested = [folder for folder in ARROWS if folder not in ("mta", "mta/mtactl")
                and pathlib.PurePath(folder).name not in tested]
    assert not untested
