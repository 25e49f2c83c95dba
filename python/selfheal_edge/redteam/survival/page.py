"""The report as one HTML file: it opens without a network, on a desk and on a phone."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from selfheal_edge.redteam.survival.contestant import NAMES
from selfheal_edge.redteam.survival.picture import COLOURS, LABELS, life_picture, sparkline
from selfheal_edge.redteam.survival.record import COMBINED, Record
from selfheal_edge.redteam.survival.verdict import VERDICTS
from selfheal_edge.text import markup

__all__ = ["page", "worst_first"]

_ATLAS: Final = "https://atlas.mitre.org/techniques/"
_KNOWLEDGE: Final = ("adaptive", "design", "black_box")
_KNOWS: Final = {
    "adaptive": "adaptive: reads every health report",
    "design": "knows the design and the model",
    "black_box": "black box",
}
_STYLE: Final = """
:root { color-scheme: light; --ink: #1c2430; --pale: #5b6675; --line: #dde2e8; --back: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.45;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 20px 16px 60px; }
h1 { font-size: 1.5rem; margin: 0 0 4px; } h2 { font-size: 1.15rem; margin: 32px 0 8px; }
p { margin: 6px 0; max-width: 75ch; } .pale { color: var(--pale); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 14px; }
.top { display: grid; grid-template-columns: auto 1fr; gap: 16px 28px; align-items: center; }
.score { font-size: 3rem; font-weight: 700; line-height: 1; }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: 4px 10px; }
.bar { height: 12px; border-radius: 3px; align-self: center; }
.chip { display: inline-block; border-radius: 10px; padding: 1px 9px; font-size: .85rem;
  font-weight: 600; white-space: nowrap; }
.broken { background: #fbdcd8; color: #8c1306; } .degraded { background: #fdeec6; color: #6b4a00; }
.survived { background: #d9f0df; color: #0b5224; }
.inconclusive { background: #e3e7ec; color: #3c4653; }
.wide { display: block; } .narrow { display: none; }
.wide svg, .narrow svg { width: 100%; height: auto; display: block; }
.unit { margin: 10px 0; } .unit h3 { font-size: 1rem; margin: 0; display: inline; }
.unit .head { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; }
.unit .body { display: grid; grid-template-columns: 250px 1fr; gap: 6px 18px; margin-top: 8px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: 3px 9px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 600; color: var(--pale); } tr.ours td { font-weight: 600; }
ul { margin: 6px 0; padding-left: 20px; } li { margin: 2px 0; }
details { margin-top: 6px; } summary { cursor: pointer; color: var(--pale); }
code { font-size: .88em; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  body { font-size: 14px; } main { padding: 14px 10px 40px; }
  .wide { display: none; } .narrow { display: block; }
  .top, .unit .body { grid-template-columns: 1fr; }
  th, td { padding: 3px 6px; }
}
@media print { body { background: #fff; } .unit { break-inside: avoid; } }
"""


def worst_first(records: Sequence[Record]) -> list[Record]:
    """Return records by verdict, the worst first; of each those of adaptive attackers first."""
    return sorted(
        records,
        key=lambda r: (VERDICTS.index(r["verdict"]), _KNOWLEDGE.index(r["knowledge"]), r["attack"]),
    )


def page(
    records: Sequence[Record],
    summary: Mapping[str, Any],
    *,
    model: str,
    command: str,
    machine: str,
    against: Sequence[tuple[str, str, str, float | None]] = (),
) -> str:
    """Return the report.

    Parameters
    ----------
    records
        Of all units.
    summary
        What `summary_of` returns, under ``"summary"``.
    model
        The model's name, as the user gave it.
    command
        That makes the same again.
    machine
        What ran it.
    against
        Differences from an older run: attack, verdict then, verdict now, points gained.
    """
    combined = [r for r in records if r["attack"] == COMBINED]
    others = [r for r in records if r["attack"] != COMBINED]
    parts = [
        f"<h1>What <code>{markup(model)}</code> survives</h1>",
        f"<p class='pale'>{markup(_subtitle(summary, len(records)))}</p>",
        _top(summary),
        _lost_first(records, summary),
    ]
    if against:
        parts.append(_against(against))
    for record in combined:
        parts += [
            "<h2>The combined campaign</h2>",
            "<div class='card'>",
            f"<div class='wide'>{life_picture(record, width=1040)}</div>",
            f"<div class='narrow'>{life_picture(record, width=380)}</div>",
            "</div>",
            *(_unit(phase, f"phase {n}: ") for n, phase in enumerate(record["phases"], 1)),
        ]
    for knowledge in _KNOWLEDGE:
        those = worst_first([r for r in others if r["knowledge"] == knowledge])
        if those:
            parts.append(f"<h2>Attacks alone: {markup(_KNOWS[knowledge])}</h2>")
            parts += [_unit(record) for record in those]
    parts += [_times(summary), _ends(summary, command, machine)]
    title = f"selfheal-edge: what {model} survives"
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{markup(title)}</title><style>{_STYLE}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _subtitle(summary: Mapping[str, Any], count: int) -> str:
    run = summary["run"]
    day = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return (
        f"{day} · campaign {summary['campaign']!r}, {count} units · model {run['model']} · "
        f"{run['place']} · {run['predictions_per_day']} predictions and up to "
        f"{run['labels_per_day']} answers of its owner's a day · seed {run['seed']}"
    )


def _top(summary: Mapping[str, Any]) -> str:
    bars = []
    for name in NAMES:
        share = summary["scores"].get(name)
        if share is not None:
            bars.append(
                f"<span>{markup(LABELS[name])}</span><span class='bar' style='width:"
                f"{min(100.0, 100 * share):.1f}%;background:{COLOURS[name]}'></span>"
                f"<span>{share:.1%}</span>"
            )
    chips = " ".join(
        f"<span class='chip {v}'>{len(summary['verdicts'][v])} {v}</span>"
        for v in VERDICTS
        if summary["verdicts"][v]
    )
    score = summary["score"]
    return (
        "<div class='card top'><div><div class='score'>"
        f"{'–' if score is None else f'{score:.1%}'}</div><div class='pale'>of the undamaged "
        f"model's accuracy, over all hours</div><p>{chips}</p></div>"
        f"<div class='bars'>{''.join(bars)}</div></div>"
    )


def _lost_first(records: Sequence[Record], summary: Mapping[str, Any]) -> str:
    rows = []
    for record in worst_first(records):
        if record["verdict"] in ("broken", "degraded"):
            why = "; ".join(record["why"]) or "–"
            rows.append(
                f"<li>{_chip(record)} "
                f"<b>{markup(record['attack'])}</b> ({markup(_KNOWS[record['knowledge']])}): "
                f"{markup(why)}</li>"
            )
    for name in summary["not_run"]:
        rows.append(f"<li><b>{markup(name)}</b>: not run, the time was up</li>")
    listed = f"<ul>{''.join(rows)}</ul>" if rows else "<p>Nothing, within the limits below.</p>"
    return f"<h2>What it loses</h2><div class='card'>{listed}</div>"


def _against(rows: Sequence[tuple[str, str, str, float | None]]) -> str:
    body = "".join(
        f"<tr><td>{markup(name)}</td><td>{markup(was)}</td><td>{markup(now)}</td>"
        f"<td>{'–' if points is None else f'{points:+.1f}'}</td></tr>"
        for name, was, now, points in rows
    )
    return (
        "<h2>Against the older run</h2><div class='card scroll'><table><tr><th>attack</th>"
        "<th>then</th><th>now</th><th>points of accuracy during it</th></tr>"
        f"{body}</table></div>"
    )


def _chip(record: Record) -> str:
    verdict = markup(record["verdict"])
    return f"<span class='chip {verdict}'>{verdict}</span>"


def _lasts(days: float) -> str:
    return f"{days:g} days" if days >= 2 else f"{24 * days:.0f} hours"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _unit(record: Record, before: str = "") -> str:
    technique = record["technique"]
    link = markup(technique["name"])
    if technique["id"]:
        link = f"<a href='{_ATLAS}{markup(technique['id'])}'>{markup(technique['id'])}</a> {link}"
    rows = []
    for name, parts in record["accuracy"].items():
        heals, cost = record["heals"].get(name), record["cost"].get(name)
        cells = [_percent(parts[part]) for part in ("before", "during", "after")]
        if heals is None or cost is None:
            cells += [""] * 4
        else:
            harmful = len(heals["harmful"])
            cells += [
                f"{heals['confirmed']} ({harmful})" if heals["confirmed"] else "0",
                str(record["labels"][name]),
                f"{cost['cpu_ms_per_hour']['during']:.1f}",
                f"{cost['flash_bytes_per_day'] / 1e6:.2f}",
            ]
        mine = " class='ours'" if name == NAMES[0] else ""
        label = LABELS.get(name, name)
        row = "".join(f"<td>{markup(cell)}</td>" for cell in cells)
        rows.append(f"<tr{mine}><td>{markup(label)}</td>{row}</tr>")
    why = "".join(f"<li>{markup(text)}</li>" for text in record["why"])
    over = (
        f"{markup(record['aim'])} · {_lasts(record['days'])} · strength {record['strength']:g} · "
        f"{link}"
    )
    return (
        "<div class='card unit'><div class='head'>"
        f"<h3>{markup(before + record['attack'])}</h3>"
        f"{_chip(record)}</div>"
        f"<div class='pale'>{over}</div>"
        + (f"<ul>{why}</ul>" if why else "")
        + f"<div class='body'><div>{sparkline(record)}</div><div>{_story(record)}</div></div>"
        "<details><summary>figures</summary><div class='scroll'><table><tr><th></th><th>before</th>"
        "<th>during</th><th>after</th><th>repairs confirmed (harmful)</th><th>labels</th>"
        "<th>CPU ms an hour</th><th>MB a day to flash</th></tr>"
        f"{''.join(rows)}</table></div>{_spent(record)}</details></div>"
    )


def _story(record: Record) -> str:
    """Say in words how it went for the defended model."""
    facts = []
    for name, text in (
        ("detected_after", "noticed"),
        ("named_after", "rightly named"),
        ("serves_after", "a repair serves"),
        ("healed_after", "healed and proven"),
    ):
        mark = record.get(name)
        if mark:
            facts.append(f"{text} after {mark['predictions']} predictions")
        elif name in record and name != "serves_after" and record["right_causes"]:
            facts.append(f"not {text}")
    named = record.get("named")
    if named:
        facts.append("named: " + ", ".join(n.replace("_", " ") for n in named))
    trusted = record["trusted"].get(NAMES[0])
    if trusted and trusted["share"] is not None and trusted["share"] < 0.995:
        facts.append(
            f"{trusted['share']:.0%} of its answers were called trusted, "
            f"{_percent(trusted['accuracy'])} of these were right"
        )
    return "<ul>" + "".join(f"<li>{markup(fact)}</li>" for fact in facts) + "</ul>"


def _spent(record: Record) -> str:
    spent = record.get("spent", {}).get(NAMES[0])
    if not spent:
        return ""
    words = ", ".join(f"{count:,} {what}" for what, count in spent.items() if count) or "nothing"
    notes = record.get("notes", {}).get(NAMES[0], {})
    told = "".join(f"<li>{markup(k)}: {markup(v)}</li>" for k, v in notes.items())
    return f"<p class='pale'>The attacker spent {markup(words)}.</p>" + (
        f"<ul>{told}</ul>" if told else ""
    )


def _times(summary: Mapping[str, Any]) -> str:
    rows = []
    for what, found in summary["times"].items():
        for unit in ("predictions", "labels", "seconds"):
            if unit not in found:
                continue
            one = found[unit]
            rows.append(
                f"<tr><td>{what}, in {unit}</td><td>{found['events']} of {found['of']}</td>"
                f"<td>{one['median']:,.0f}</td><td>{one['p95']:,.0f}</td>"
                f"<td>{one['limit']:,.0f}</td><td>{'yes' if one['is_within'] else 'no'}</td></tr>"
            )
    return (
        "<h2>From onset to healed</h2><div class='card scroll'><table><tr><th></th><th>events</th>"
        "<th>median</th><th>95th percentile</th><th>limit of the median</th><th>within</th></tr>"
        f"{''.join(rows)}</table><p class='pale'>The 95th percentile is held to four times the "
        "limit. Seconds are of the simulated clock.</p></div>"
    )


def _ends(summary: Mapping[str, Any], command: str, machine: str) -> str:
    reasons: dict[str, list[str]] = {}
    for name, why in summary["not_applicable"].items():
        reasons.setdefault(why, []).append(name)
    left_out = "".join(
        f"<li>{markup(why)}: <b>{markup(', '.join(names))}</b></li>"
        for why, names in reasons.items()
    )
    limits = ", ".join(f"{k} {v:g}" for k, v in summary["limits"].items())
    return (
        (f"<h2>Does not apply</h2><div class='card'><ul>{left_out}</ul></div>" if left_out else "")
        + "<h2>How to read this</h2><div class='card'>"
        "<p>Four devices live the same hours: the guarded model, the bare one, one that trains its "
        "last layer at any alarm on whatever came, and one that an operator restarts by the hour "
        "from a file held to its hash. Each meets an attacker of its own, with the same seed. "
        "“Undamaged” is the model as it was shipped on undisturbed inputs; “same inputs” the same "
        "model on what the guarded one saw. A repair is harmful if it costs more than the limit on "
        "samples that no contestant ever sees, in the condition of that hour.</p>"
        "<p><b>Survived</b>: within the limits. <b>Degraded</b>: beyond one. <b>Broken</b>: beyond "
        "one that says so, harmed for good, or an error instead of an answer. <b>Inconclusive</b>: "
        "the 95 % interval of the loss lies on both sides of the limit, or there were too few "
        "predictions.</p>"
        f"<p class='pale'>Limits: {markup(limits)}.</p><p class='pale'>Again: "
        f"<code>{markup(command)}</code><br>On: {markup(machine)}</p></div>"
    )
