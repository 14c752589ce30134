"""Reads a page in Prometheus' text format 0.0.4, and refuses whatever breaks the format, the naming conventions, or
the promises of mtad's page (prefix, bounded labels, help for all, histograms that add up)."""

import http.client
import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
HEAD = re.compile(rf"# (HELP|TYPE) ({NAME}) (.+)")
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\+Inf|-Inf|NaN|[-+0-9.e]+)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
SERIES_MAX = 400
# Units that are no base units, and words that name a type.
WRONG_WORDS = {"ms", "milliseconds", "minutes", "hours", "kib", "mib", "kilobytes", "percent", "counter", "gauge",
               "histogram"}


class Family:
    def __init__(self, name, text):
        self.name, self.help, self.kind = name, text, None
        self.samples = {}  # (name, ((label, value), ...)) -> number


class Page:
    """All families; page["name"], page["name{state=queued}"] and page.sum("name") give numbers."""

    def __init__(self, text):
        self.families = {}
        assert text.endswith("\n"), "the last line has no end"
        current = None
        for line in text[:-1].split("\n"):
            current = self._take(line, current)
        for family in self.families.values():
            check_family(family)
        assert sum(len(family.samples) for family in self.families.values()) <= SERIES_MAX

    def _take(self, line, current):
        head = HEAD.fullmatch(line)
        if head and head.group(1) == "HELP":
            name = head.group(2)
            assert name not in self.families, f"{name} twice"
            self.families[name] = Family(name, head.group(3))
            return self.families[name]
        if head:
            assert current and head.group(2) == current.name and current.kind is None and not current.samples, line
            assert head.group(3) in SUFFIXES, line
            current.kind = head.group(3)
            return current
        sample = SAMPLE.fullmatch(line)
        assert sample, f"no sample: {line!r}"
        name, labels, value = sample.groups()
        assert current and current.kind, f"no HELP and TYPE before {line}"
        assert name in [current.name + suffix for suffix in SUFFIXES[current.kind]], f"{line} within {current.name}"
        pairs = tuple(tuple(pair.split("=", 1)) for pair in re.findall(LABEL, labels or ""))
        pairs = tuple((key, text[1:-1]) for key, text in pairs)
        assert len({key for key, _ in pairs}) == len(pairs), line
        assert (name, pairs) not in current.samples, f"twice: {line}"
        current.samples[name, pairs] = float(value)
        return current

    def __getitem__(self, key):
        name, _, labels = key.rstrip("}").partition("{")
        wanted = tuple(tuple(pair.split("=", 1)) for pair in labels.split(",")) if labels else ()
        return self.samples()[name, wanted]

    def __contains__(self, name):
        return name in self.families

    def samples(self):
        return {key: value for family in self.families.values() for key, value in family.samples.items()}

    def sum(self, name):
        return sum(self.families[name].samples.values())


def check_family(family):
    words = set(family.name.split("_"))
    assert family.kind and family.samples, f"{family.name}: no type, or no sample"
    assert family.name.startswith("mta_") and family.name == family.name.lower(), family.name
    assert not words & WRONG_WORDS, family.name
    assert (family.kind == "counter") == family.name.endswith("_total"), family.name
    assert not family.name.endswith(("_bucket", "_sum", "_count")), family.name
    assert family.help.endswith(".") and len(family.help) > 10, (family.name, family.help)
    assert len({tuple(key for key, _ in labels if key != "le") for _, labels in family.samples}) == 1, family.name
    for (name, labels), value in family.samples.items():
        assert math.isfinite(value) and value >= 0, (name, labels, value)
        if family.kind == "counter" and not name.endswith("_seconds_total"):
            assert value == int(value), (name, value)
    if family.kind == "histogram":
        check_histogram(family)


def check_histogram(family):
    buckets = [(float(dict(labels)["le"]), value) for (name, labels), value in family.samples.items()
               if name.endswith("_bucket")]
    count = family.samples[family.name + "_count", ()]
    total = family.samples[family.name + "_sum", ()]
    bounds = [bound for bound, _ in buckets]
    values = [value for _, value in buckets]
    assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf and len(bounds) > 2, bounds
    assert values == sorted(values) and values[-1] == count, (family.name, values, count)
    # The sum lies between what the buckets allow.
    each = [value - before for value, before in zip(values, [0, *values])]
    least = sum(n * bound for n, bound in zip(each[1:], bounds[:-1]))
    most = sum(n * bound for n, bound in zip(each, bounds) if n)
    assert least * 0.999 <= total <= most * 1.001, (family.name, total, least, most)


def check_monotonic(before, after):
    """No counter and no bucket ever falls, and no series of one disappears."""
    for family in before.families.values():
        if family.kind == "gauge":
            continue
        for key, value in family.samples.items():
            assert after.families[family.name].samples[key] >= value, key


def fetch(address, path="/metrics", method="GET", timeout=20):
    """(code, headers, text) from "HOST:PORT"."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def scrape(address):
    code, headers, text = fetch(address)
    assert code == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), (code, headers)
    return Page(text)
