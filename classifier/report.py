"""
A report as one page of HTML: values in, text out.

Keeps: the page is whole by itself. Styles and drawings are inline, nothing is fetched and nothing is run (the page's
own content policy forbids it), and every text that comes from an article, a corpus or a model is escaped, by `_text`.
"""

from collections.abc import Iterator, Sequence
from html import escape

from classifier.evaluation import Confusion, ErrorKind, FacetMetrics, LabelMetrics, Passage, Report
from classifier.measures import Interval, Point

# A page somebody opens on a phone; a longer text is cut, and says so.
MAX_TEXT = 6000
_HEAT_CELLS = 15
# A share of fewer examples than this is left out of the heat table: it says more about chance than about labels.
_HEAT_SUPPORT = 3

_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1c2330; --soft: #5d6778; --line: #dfe3ea;
  --main: #2458c5; --area: #2458c522; --good: #1a7f4e; --bad: #c03a2b; --for: #ffe08a; --against: #c9dcff; }
@media (prefers-color-scheme: dark) { :root { --page: #12151b; --card: #1b2029; --ink: #e6e9ef; --soft: #9aa5b5;
  --line: #313a48; --main: #7ea6ff; --area: #7ea6ff2e; --good: #5cc894; --bad: #ff8a7a; --for: #6b5410;
  --against: #274372; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 48px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 4px; }
h3 { font-size: .95rem; margin: 18px 0 6px; }
p { margin: 0 0 10px; max-width: 75ch; }
.soft { color: var(--soft); font-size: .87rem; }
.notice{border:2px solid #c2410c;border-radius:8px;padding:.7rem 1rem;max-width:60rem}
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: 10px; margin: 18px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.card b { display: block; font-size: 1.45rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card span { display: block; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child > * { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
tbody th { color: var(--ink); font-weight: 500; }
td svg { vertical-align: middle; margin-left: 6px; }
.grid figcaption .soft { display: block; font-size: inherit; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(138px, 1fr)); gap: 10px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 14px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px; }
figure svg { width: 100%; height: auto; display: block; }
.pair svg { max-width: 430px; margin: 6px auto; }
figcaption { font-size: .78rem; overflow-wrap: anywhere; line-height: 1.35; }
svg text { fill: var(--soft); font: 9px system-ui, sans-serif; }
.axis { stroke: var(--line); fill: none; }
.ideal { stroke: var(--soft); stroke-dasharray: 3 3; fill: none; }
.curve { stroke: var(--main); stroke-width: 1.6; fill: none; stroke-linejoin: round; }
.curve2 { stroke: var(--good); stroke-width: 1.6; fill: none; stroke-linejoin: round; }
.area { fill: var(--area); }
.dot { fill: var(--main); }
.dot2 { fill: var(--good); }
.whisker { stroke: var(--main); stroke-width: 1.6; }
.heat .name { display: inline-block; writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
.heat thead th { vertical-align: bottom; }
.heat thead th:not(:first-child) { text-align: center; }
.heat td { text-align: center; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 8px 0; }
summary { cursor: pointer; padding: 9px 14px; overflow-wrap: anywhere; }
.tag { display: inline-block; border: 1px solid currentColor; border-radius: 99px; padding: 0 9px; font-size: .8rem;
  margin: 0 4px; }
.false_positive { color: var(--bad); }
.false_negative { color: var(--main); }
.text { padding: 2px 14px 14px; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 26em; overflow-y: auto; }
mark { background: var(--for); color: inherit; border-radius: 3px; padding: 0 1px; }
mark.against { background: var(--against); text-decoration: underline dotted; }
@media (max-width: 600px) { main { padding: 14px 10px 32px; } th, td { padding: 5px 7px; } h1 { font-size: 1.25rem; } }
@media print { details .text { max-height: none; } }
"""


def render_report(
    report: Report, passages: Sequence[Passage], *, model: str, corpora: Sequence[str], n_learnt: int = 0
) -> str:
    """
    Return the page.

    Args:
        report: what `evaluate` measured.
        passages: the errors to show with their texts, in the order they are shown.
        model: how records name the model.
        corpora: the names of the files it was measured on.
        n_learnt: how many of the articles the model learnt from; the page says so at the top.
    """
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_text(model)}: evaluation</title><style>{_STYLE}</style></head><body><main>",
        f"<h1>{_text(model)}</h1>",
        f'<p class="soft">Measured on {report.n_examples} articles of {_text(", ".join(corpora))}.',
        "Tags of both bands count; labels unknown in an article are left out.",
        "Brackets and whiskers are 95 % bootstrap intervals over articles.</p>",
        *_notice(n_learnt, report.n_examples),
        *_cards(report),
        "<h2>Labels</h2>",
        '<p class="soft">AP is average precision: how well the scores rank, whatever the limits.</p>',
        *(part for facet in report.facets for part in _label_table(facet)),
        "<h2>Precision and recall at every limit</h2>",
        '<p class="soft">Recall to the right, precision upwards; a dot marks the limit in use.</p>',
        *(part for facet in report.facets for part in _curves(facet)),
        "<h2>Scores</h2>",
        '<div class="pair">',
        *_reliability(report),
        *_coverage(report),
        "</div>",
        "<h2>Confusion between labels</h2>",
        *_heat(report.confusions),
        "<h2>Slices</h2>",
        *_slices(report),
        "<h2>Worst errors</h2>",
        *_errors(passages),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _text(value: str) -> str:
    """Return *value* fit for text and attributes: escaped, control characters but line ends replaced."""
    return escape("".join(char if char.isprintable() or char == "\n" else " " for char in value))


def _notice(n_learnt: int, n_examples: int) -> list[str]:
    if not n_learnt:
        return []
    return [
        f'<p class="notice"><strong>The model learnt from {n_learnt} of these {n_examples} articles.</strong>',
        "The figures say how well it remembers them, not how well it does on news.</p>",
    ]


def _cards(report: Report) -> Iterator[str]:
    yield '<div class="cards">'
    for facet in report.facets:
        for name, title in (
            ("macro_f1", "macro F1"),
            ("micro_f1", "micro F1"),
            ("alert_precision", "alert precision"),
            ("alert_recall", "alert recall"),
        ):
            yield _card(f"{facet.facet}: {title}", _number(getattr(facet, name)), _between(facet.intervals.get(name)))
    rate = "none" if report.off_topic_rate is None else f"{report.off_topic_rate:.0%}"
    limits = report.off_topic_interval
    between = f" [{limits[0]:.0%}, {limits[1]:.0%}]" if limits else ""
    counts = f"{report.off_topic_tagged} of {report.off_topic}"
    yield _card("off-topic articles tagged", rate, f"{counts}{between}")
    error = "none" if report.calibration_error is None else f"{report.calibration_error:.3f}"
    yield _card("calibration error", error, "expected, 10 bins")
    yield "</div>"


def _card(title: str, value: str, below: str) -> str:
    return (
        f'<div class="card"><span class="soft">{_text(title)}</span><b>{_text(value)}</b>'
        f'<span class="soft">{_text(below) or "&nbsp;"}</span></div>'
    )


def _label_table(facet: FacetMetrics) -> Iterator[str]:
    yield f'<h3>{_text(facet.facet)}</h3><div class="scroll"><table><thead><tr>'
    yield "".join(
        f'<th scope="col">{name}</th>' for name in ("label", "support", "tags", "precision", "recall", "F1", "AP")
    )
    yield "</tr></thead><tbody>"
    for label in facet.labels:
        cells = "".join(
            f"<td>{_number(getattr(label, name), '')}{_whisker(getattr(label, name), label.intervals.get(name))}</td>"
            for name in ("precision", "recall", "f1", "average_precision")
        )
        yield f'<tr><th scope="row">{_text(label.label)}</th><td>{label.support}</td><td>{label.tagged}</td>'
        yield f"{cells}</tr>"
    yield "</tbody></table></div>"


def _whisker(value: float | None, limits: Interval | None) -> str:
    if value is None or limits is None:
        return ""
    low, high, middle = (3 + 64 * number for number in (*limits, value))
    return (
        f'<svg width="70" height="14" role="img" aria-label="{_between(limits)}"><title>{_between(limits)}</title>'
        '<path class="axis" d="M3 7H67"/>'
        f'<path class="whisker" d="M{low:.1f} 7H{high:.1f}M{low:.1f} 4V10M{high:.1f} 4V10"/>'
        f'<circle class="dot" cx="{middle:.1f}" cy="7" r="3"/></svg>'
    )


def _curves(facet: FacetMetrics) -> Iterator[str]:
    with_curve = [label for label in facet.labels if label.curve]
    yield f"<h3>{_text(facet.facet)}</h3>"
    if not with_curve:
        yield '<p class="soft">No label of this facet has an article.</p>'
        return
    yield '<div class="grid">'
    for label in with_curve:
        yield f"<figure>{_curve(label)}<figcaption>{_text(label.label).replace('_', '_<wbr>')} "
        yield f'<span class="soft">AP {_number(label.average_precision)}</span></figcaption></figure>'
    yield "</div>"


def _curve(label: LabelMetrics) -> str:
    path = _path([(0.0, label.curve[0][1]), *label.curve], size=100, left=6, top=6)
    dot = ""
    if label.precision is not None and label.recall is not None:
        dot = f'<circle class="dot" cx="{6 + 100 * label.recall:.1f}" cy="{106 - 100 * label.precision:.1f}" r="3.2"/>'
    last = 6 + 100 * label.curve[-1][0]
    return (
        f'<svg viewBox="0 0 112 112" role="img" aria-label="precision and recall of {_text(label.label)}">'
        '<rect class="axis" x="6" y="6" width="100" height="100"/><path class="axis" d="M6 56H106M56 6V106"/>'
        f'<path class="area" d="{path}L{last:.1f} 106L6 106Z"/><path class="curve" d="{path}"/>{dot}</svg>'
    )


def _path(points: Sequence[Point], *, size: int, left: int, top: int) -> str:
    return "".join(
        f"{'L' if k else 'M'}{left + size * x:.1f} {top + size * (1 - y):.1f}" for k, (x, y) in enumerate(points)
    )


def _reliability(report: Report) -> Iterator[str]:
    points = [
        (item.mean_score, item.positive_share, item.count)
        for item in report.calibration
        if item.mean_score is not None and item.positive_share is not None
    ]
    yield '<figure><figcaption><b>Reliability</b><br><span class="soft">Of the cells with a score, how many carry the '
    yield "label; on the dashed line a score means what it says. Larger dots hold more cells.</span></figcaption>"
    yield '<svg viewBox="0 0 260 250" role="img" aria-label="reliability diagram">'
    yield _axes("score", "share that carries the label", [0, 0.25, 0.5, 0.75, 1])
    yield '<path class="ideal" d="M40 210L240 10"/>'
    path = _path([(score, share) for score, share, _ in points], size=200, left=40, top=10)
    yield f'<path class="curve" d="{path}"/>' if path else ""
    for score, share, count in points:
        radius = 2 + 0.9 * len(str(count))
        title = f"{count} cells: score {score:.2f}, share {share:.2f}"
        yield f'<circle class="dot" cx="{40 + 200 * score:.1f}" cy="{210 - 200 * share:.1f}" r="{radius:.1f}">'
        yield f"<title>{title}</title></circle>"
    yield "</svg>"
    errors = ", ".join(
        f"{facet.facet} {facet.calibration_error:.3f}" for facet in report.facets if facet.calibration_error is not None
    )
    yield f'<p class="soft">Expected calibration error: {_text(errors) or "none"}.</p></figure>'


def _axes(across: str, upwards: str, ticks: Sequence[float], start: float = 0.0) -> str:
    lines = []
    for tick in ticks:
        x = 40 + 200 * (tick - start) / (1 - start)
        lines.append(f'<path class="axis" d="M{x:.1f} 10V210"/>')
        lines.append(f'<text x="{x:.1f}" y="222" text-anchor="middle">{tick:g}</text>')
    for level in (0, 0.25, 0.5, 0.75, 1):
        y = 210 - 200 * level
        lines.append(f'<path class="axis" d="M40 {y:.1f}H240"/>')
        lines.append(f'<text x="35" y="{y + 3:.1f}" text-anchor="end">{level:g}</text>')
    lines.append(f'<text x="140" y="240" text-anchor="middle">{across}</text>')
    lines.append(f'<text x="12" y="110" text-anchor="middle" transform="rotate(-90 12 110)">{upwards}</text>')
    return "".join(lines)


def _coverage(report: Report) -> Iterator[str]:
    yield '<figure><figcaption><b>Coverage</b><br><span class="soft">When tags below a score are dropped: '
    yield '<span style="color:var(--main)">● share of tags kept</span>, '
    yield '<span style="color:var(--good)">● their precision</span>.</span></figcaption>'
    yield '<svg viewBox="0 0 260 250" role="img" aria-label="coverage and precision by score">'
    yield _axes("lowest score kept", "share", [0.5, 0.6, 0.7, 0.8, 0.9], start=0.48)
    for name, style in (("kept", ""), ("precision", "2")):
        points = [
            ((item.cut - 0.48) / 0.52, value) for item in report.coverage if (value := getattr(item, name)) is not None
        ]
        yield f'<path class="curve{style}" d="{_path(points, size=200, left=40, top=10)}"/>' if points else ""
        for x, y in points:
            yield f'<circle class="dot{style}" cx="{40 + 200 * x:.1f}" cy="{210 - 200 * y:.1f}" r="2.6"/>'
    yield "</svg>"
    ends = [item for item in report.coverage if item.kept is not None]
    if ends:
        last = ends[-1]
        yield f'<p class="soft">At {last.cut:.2f} and above: {last.tagged} tags, {_number(last.kept)} of all, '
        yield f"precision {_number(last.precision)}, recall {_number(last.recall)}.</p>"
    yield "</figure>"


def _heat(confusions: Sequence[Confusion]) -> Iterator[str]:
    top = [item for item in confusions if item.n_examples >= _HEAT_SUPPORT][:_HEAT_CELLS]
    if not top:
        yield '<p class="soft">No label was tagged beside another that was alone right '
        yield f"(in at least {_HEAT_SUPPORT} articles).</p>"
        return
    rows, columns = (list(dict.fromkeys(getattr(item, name) for item in top)) for name in ("label", "tagged"))
    shown = {(item.label, item.tagged): item for item in confusions}
    yield '<p class="soft">Rows: articles that carry this label and no other of its facet. Columns: how often that '
    yield f"label was tagged there, which is wrong. The {len(top)} most frequent pairs and what else lies between "
    yield "them; under a figure the count.</p>"
    yield '<div class="scroll"><table class="heat"><thead><tr><th scope="col">only label</th>'
    yield "".join(f'<th scope="col"><span class="name">{_text(name)}</span></th>' for name in columns)
    yield "</tr></thead><tbody>"
    highest = max(item.share for item in top)
    for row in rows:
        cells = []
        for column in columns:
            item = shown.get((row, column))
            if item is None:
                cells.append("<td></td>")
                continue
            heat = 0.08 + 0.55 * min(1.0, item.share / highest)
            cells.append(
                f'<td style="background:rgb(224 88 44 / {heat:.2f})">{item.share:.0%}<br>'
                f'<span class="soft">{item.count}/{item.n_examples}</span></td>'
            )
        yield f'<tr><th scope="row">{_text(row)}</th>{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


def _slices(report: Report) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr>'
    names = ("slice", "articles", "labels", "macro F1", "micro F1")
    yield "".join(f'<th scope="col">{name}</th>' for name in names)
    yield "</tr></thead><tbody>"
    for item in report.slices:
        cells = (item.n_examples, item.support, _number(item.macro_f1, ""), _number(item.micro_f1, ""))
        yield f'<tr><th scope="row">{_text(item.name)} <span class="soft">{_text(item.kind)}</span></th>'
        yield "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table></div>"


def _errors(passages: Sequence[Passage]) -> Iterator[str]:
    yield '<p class="soft">Words that spoke most <mark>for</mark> and most <mark class="against">against</mark> the '
    yield "label. A label may be wrong in the corpus, too.</p>"
    for kind, title in (
        (ErrorKind.FALSE_POSITIVE, "Tagged and wrong, highest score first"),
        (ErrorKind.FALSE_NEGATIVE, "Missed, lowest score first"),
    ):
        own = [passage for passage in passages if passage.error.kind is kind]
        yield f"<h3>{title}</h3>"
        if not own:
            yield '<p class="soft">None.</p>'
        for number, passage in enumerate(own):
            error = passage.error
            yield f"<details{'' if number else ' open'}><summary><b>{error.score:.2f}</b>"
            yield f'<span class="tag {kind}">{_text(error.label)}</span>{_text(passage.title) or "(no title)"} '
            yield f'<span class="soft">{_text(error.id)}</span></summary>'
            yield f'<div class="text">{_marked(passage)}</div></details>'


def _marked(passage: Passage) -> str:
    """Return the text, escaped piece by piece so that no mark can split an entity."""
    spans = [(*span, "<mark>") for span in passage.speaks_for]
    spans += [(*span, '<mark class="against">') for span in passage.speaks_against]
    parts, place = [], 0
    for start, end, mark in sorted(spans):
        if end > MAX_TEXT:
            break
        parts += [_text(passage.text[place:start]), mark, _text(passage.text[start:end]), "</mark>"]
        place = end
    parts.append(_text(passage.text[place:MAX_TEXT]))
    if len(passage.text) > MAX_TEXT:
        parts.append(f' <span class="soft">(cut; {len(passage.text)} characters in all)</span>')
    return "".join(parts)


def _number(value: float | None, absent: str = "none") -> str:
    return absent if value is None else f"{value:.2f}"


def _between(limits: Interval | None) -> str:
    return f"[{limits[0]:.2f}, {limits[1]:.2f}]" if limits else ""
