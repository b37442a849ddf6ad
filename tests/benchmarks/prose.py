"""
Prose for benchmarks: what is installed on this machine as documentation, cleaned of markup.

Manual pages, plain text, Markdown, reStructuredText, POD and the docstrings of Python packages. Paragraphs that are
mostly code, tables or lists are left out, and so is every paragraph seen before. The files are read in an order that
is shuffled with a fixed seed, so the text is varied from the first megabyte on; the same machine always gives the same
text.
"""

import ast
import gzip
import hashlib
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOTS = ("/usr/share/man", "/usr/share/doc", "/usr/share/perl", "/usr/share/vim", "/usr/lib", "/usr/local/lib")
SUFFIXES = {".txt", ".md", ".rst", ".pod", ".py", ".gz", ".1", ".3", ".5", ".7", ".8"}
MAX_FILE_BYTES = 3_000_000
MIN_WORDS = 12
MIN_LETTERS = 0.74  # of all characters of a paragraph, blanks not counted as letters
_ROFF = re.compile(r"^[.'].*$", re.MULTILINE)
_ROFF_ESCAPE = re.compile(r"\\f[A-Z]|\\f\([A-Z]{2}|\\s[-+]?\d|\\&|\\\||\\[ceu]")
_MARKUP = re.compile(r"<[^>]{1,200}>|``|[*|#=~+]{2,}|[A-Z]<([^<>]*)>")
_WORD = re.compile(r"[A-Za-z]{2,}")


def collect(n_bytes: int, seed: int = 0) -> list[tuple[str, str]]:
    """Return (origin, paragraph) pairs of about *n_bytes* in sum; the origin is the package a file belongs to."""
    paths = [path for path in _paths() if path.suffix in SUFFIXES]
    random.Random(seed).shuffle(paths)  # noqa: S311 - an order, not a secret
    seen: set[bytes] = set()
    found: list[tuple[str, str]] = []
    size = 0
    for path in paths:
        for paragraph in _paragraphs(_read(path)):
            digest = hashlib.blake2b(paragraph.encode(), digest_size=8).digest()
            if digest not in seen:
                seen.add(digest)
                found.append((_origin(path), paragraph))
                size += len(paragraph)
        if size >= n_bytes:
            break
    return found


def documents(paragraphs: list[tuple[str, str]], size: int) -> list[tuple[str, str]]:
    """Return (origin, text): paragraphs of one origin joined and cut between words to about *size* characters."""
    by_origin: dict[str, list[str]] = {}
    for origin, paragraph in paragraphs:
        by_origin.setdefault(origin, []).append(paragraph)
    cut = []
    for origin, parts in by_origin.items():
        text, start = "\n\n".join(parts), 0
        while len(text) - start >= size // 2:
            end = text.find(" ", start + size)
            end = len(text) if end < 0 else end
            cut.append((origin, text[start:end]))
            start = end + 1
    random.Random(1).shuffle(cut)  # noqa: S311
    return cut


def _paths() -> Iterator[Path]:
    for root in (*ROOTS, sysconfig.get_paths()["purelib"]):
        folder = Path(root)
        if folder.is_dir():
            yield from sorted(path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())


def _origin(path: Path) -> str:
    """Return the name of the package a file belongs to, as far as its path tells."""
    parts = path.parts
    for marker in ("doc", "man", "site-packages", "perl", "third_party", "lib", "share"):
        if marker in parts[:-1]:
            return parts[parts.index(marker) + 1].removesuffix(".gz")
    return parts[2]


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        if len(raw) > MAX_FILE_BYTES:
            return ""
        text = raw.decode("utf-8")
        if path.suffix == ".py":
            tree = ast.parse(text)
            kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
            return "\n\n".join(ast.get_docstring(node) or "" for node in nodes)
    except (OSError, ValueError, SyntaxError, EOFError, RecursionError, MemoryError):
        return ""
    if text[:2] in {".\\", "'\\", ".T"} or "\n.SH" in text:
        text = _ROFF_ESCAPE.sub("", _ROFF.sub("", text)).replace("\\-", "-").replace("\\(aq", "'")
    return text


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(_MARKUP.sub(r"\1", block).split())
        if len(_WORD.findall(paragraph)) >= MIN_WORDS:
            letters = sum(map(str.isalpha, paragraph))
            if letters >= MIN_LETTERS * len(paragraph):
                yield paragraph
