"""The look of the page: one style sheet, light and dark, system fonts, no colours alone.

Meaning is never told by colour only: outcomes are written out, limits are dashed lines,
the chosen candidate is filled and bold.
"""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --quiet: #5d6670; --line: #dfe3e8; --panel: #f6f7f9;
  --chosen: #0b6bcb; --mark: #8a94a0; --pass: #1a7f37; --fail: #c62828; --unsure: #9a6700;
  --pass-bg: #e3f5e8; --fail-bg: #fdeaea; --unsure-bg: #fdf3d7; --soft: #a9b3be;
  --point: #4c5763; --over: rgba(198, 40, 40, 0.06); --stripe: rgba(198, 40, 40, 0.07); }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --ink: #e7eaee; --quiet: #9aa4af; --line: #2c323a; --panel: #1c2127;
  --chosen: #5aa9f5; --mark: #77828f; --pass: #57c477; --fail: #f07a7a; --unsure: #e0b64a;
  --pass-bg: #173022; --fail-bg: #3a1c1c; --unsure-bg: #362c12; --soft: #56616d;
  --point: #b4bdc7; --over: rgba(240, 122, 122, 0.09);
  --stripe: rgba(240, 122, 122, 0.10); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
.track i, .cell i, .key::before, .badge, .card, svg { print-color-adjust: exact; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
section { margin-top: 40px; }
h1 { font-size: 32px; line-height: 1.2; margin: 0; letter-spacing: -0.01em;
  display: flex; align-items: center; gap: 14px; flex-wrap: wrap; }
h2 { font-size: 18px; margin: 0 0 12px; letter-spacing: -0.005em; }
p { margin: 8px 0; }
ul { margin: 8px 0; padding-left: 20px; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.kicker { margin: 0 0 4px; color: var(--quiet); font-size: 13px; }
.lead { font-size: 18px; margin: 12px 0 4px; }
.quiet, small { color: var(--quiet); font-size: 13px; }
.missed li { margin: 4px 0; }
.badge { display: inline-block; font-size: 13px; line-height: 1; font-weight: 600;
  padding: 5px 9px; border-radius: 999px; white-space: nowrap; letter-spacing: 0;
  color: var(--quiet); background: var(--panel); }
h1 .badge { font-size: 15px; padding: 7px 13px; }
.badge.pass { color: var(--pass); background: var(--pass-bg); }
.badge.fail { color: var(--fail); background: var(--fail-bg); }
.badge.inconclusive { color: var(--unsure); background: var(--unsure-bg); }
.cards { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); }
.card { background: var(--panel); border-radius: 10px; padding: 14px 16px; }
.card span { display: block; color: var(--quiet); font-size: 13px; }
.card b { display: block; font-size: 22px; font-weight: 600; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums; }
.card small { display: block; }
.scroll { overflow-x: auto; }
.scroll + figure { margin-top: 28px; max-width: 640px; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: 13px;
  border-bottom: 1px solid var(--line); padding: 6px 12px 6px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 8px 12px 8px 0; vertical-align: top; }
td:last-child, th:last-child { padding-right: 0; min-width: 220px; }
td.tight, td b { white-space: nowrap; }
.plots, .panels { display: grid; gap: 36px 44px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); align-items: start; }
.panels { gap: 20px 28px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
.panels figure { max-width: 430px; }
figure { margin: 0; min-width: 0; }
figure + figure { margin-top: 0; }
figcaption { color: var(--quiet); font-size: 13px; margin-bottom: 10px; }
figcaption b { color: var(--ink); font-weight: 600; }
.panels figcaption { margin-bottom: 2px; }
.banner { border: 2px solid var(--fail); border-left-width: 12px; border-radius: 10px;
  background: var(--fail-bg); padding: 14px 18px; margin-bottom: 28px; font-size: 17px;
  background-image: repeating-linear-gradient(135deg, transparent 0 14px,
    var(--stripe) 14px 28px); }
.banner b { color: var(--fail); }
ul.doubts { list-style: none; padding: 0; }
ul.doubts li { margin: 8px 0; padding: 10px 14px; border-radius: 8px;
  background: var(--panel); border-left: 4px solid var(--unsure); }
.badge.doubt { color: var(--unsure); background: var(--unsure-bg); margin-right: 4px; }
td .ships { color: var(--chosen); font-weight: 600; white-space: nowrap; }
.lacks { border-left: 4px solid var(--unsure); padding-left: 12px; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--quiet); font-size: 14px; margin-bottom: 6px; }
summary:hover { color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 22px; font-size: 13px;
  color: var(--quiet); }
.key::before { content: ""; display: inline-block; width: 11px; height: 11px;
  margin-right: 7px; vertical-align: -1px; border-radius: 50%; border: 2px solid var(--mark); }
.key.chosen::before { background: var(--chosen); border-color: var(--chosen); }
.key.inconclusive::before { border-radius: 0; transform: rotate(45deg) scale(0.8); }
.key.fail::before { content: "\\d7"; border: 0; font-size: 22px; line-height: 9px;
  font-weight: 600; color: var(--mark); }
.key.frontier::before { border: 0; border-top: 2px solid var(--chosen); border-radius: 0;
  width: 18px; height: 4px; opacity: 0.55; }
.key.limit::before { border: 0; border-left: 2px dashed var(--fail); border-radius: 0;
  background: var(--over); width: 14px; height: 13px; vertical-align: -2px; }
.key.calibrate::before, .key.evaluate::before { border: 0; border-radius: 2px; }
.key.calibrate::before { background: var(--chosen); }
.key.evaluate::before { background: var(--soft); }
figcaption .key { margin: 0 4px; }

.bars { display: grid; gap: 2px; font-size: 13px; }
.row { display: grid; grid-template-columns: minmax(76px, 26%) 1fr minmax(56px, auto);
  gap: 12px; align-items: center; min-height: 25px; font-variant-numeric: tabular-nums; }
.row .name { text-align: right; overflow-wrap: anywhere; line-height: 1.25; }
.row .value { text-align: right; white-space: nowrap; min-width: 64px; }
.row .track { position: relative; height: 22px; }
.row.overall .name { font-weight: 600; }
.track i { position: absolute; top: 3px; bottom: 3px; border-radius: 2px; }
.track .whole { background: var(--soft); }
.track .whole.ships { background: var(--chosen); }
.row.ships .name { font-weight: 600; color: var(--chosen); }
.row.ships .value { color: var(--chosen); }
.track .rest { border-bottom: 1px solid var(--line); border-radius: 0; bottom: 10px; }
.track .less { background: repeating-linear-gradient(135deg, var(--pass) 0 3px,
  var(--pass-bg) 3px 6px); }
.track .more { background: repeating-linear-gradient(45deg, var(--fail) 0 3px,
  var(--fail-bg) 3px 6px); }
.track .range { top: 10px; bottom: 10px; min-width: 2px; background: var(--chosen); }
.track .range.failed, .track .dot.failed { background: var(--fail); }
.track .dot { top: 6.5px; width: 9px; height: 9px; margin-left: -4.5px; border-radius: 50%;
  background: var(--chosen); }
.track .dot.failed { border-radius: 0; transform: rotate(45deg) scale(0.9); }
.track .limit { top: 0; bottom: 0; width: 0; border-radius: 0;
  border-left: 2px dashed var(--fail); }
.track .zero { top: -1px; bottom: -1px; width: 0; border-radius: 0;
  border-left: 1px solid var(--mark); opacity: 0.6; }
.row.pair .track i { min-width: 1px; }
.track .calibrate { background: var(--chosen); top: 3px; bottom: 12px; }
.track .evaluate { background: var(--soft); top: 12px; bottom: 3px; }
.row.lacking .name::before { content: "! "; color: var(--unsure); font-weight: 700; }
.row.axis { min-height: 18px; }
.row.axis .track { border-top: 1px solid var(--line); height: 18px; }
.row.axis em { position: absolute; top: 2px; transform: translateX(-50%); font-style: normal;
  color: var(--quiet); font-size: 12px; }
.axis-label { margin: 0; text-align: center; color: var(--quiet); font-size: 12px; }

.strip { display: flex; gap: 1px; height: 120px; min-width: 100%; width: max-content;
  align-items: stretch; border-bottom: 1px solid var(--line); }
.strip .cell { flex: 1 1 0; min-width: 5px; position: relative; background: var(--panel); }
.strip .cell i { position: absolute; left: 0; right: 0; bottom: 0; }
.cell.int8 i, .key.cell.int8::before { background: var(--chosen); }
.cell.int8-weights i, .key.cell.int8-weights::before { background:
  repeating-linear-gradient(135deg, var(--chosen) 0 3px, var(--paper) 3px 6px); }
.cell.float i, .key.cell.float::before { background: var(--paper);
  border: 2px solid var(--unsure); }
.key.cell::before { border-radius: 2px; border-color: var(--chosen); width: 14px; }

svg { width: 100%; height: auto; display: block; overflow: visible; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  fill: var(--ink); font-variant-numeric: tabular-nums;
  paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
svg text.axis { fill: var(--quiet); }
svg text.muted { fill: var(--quiet); }
svg text.limit-label { fill: var(--fail); }
svg text.strong { font-weight: 600; }
svg line { stroke: var(--line); stroke-width: 1; }
svg line.zero { stroke: var(--mark); }
svg line.limit { stroke: var(--fail); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg rect.over { fill: var(--over); }
svg path.frontier { fill: none; stroke: var(--chosen); stroke-width: 2; opacity: 0.55;
  stroke-linejoin: round; }
svg line.range { stroke-width: 2; stroke-linecap: round; stroke: var(--mark); }
svg .chosen line.range { stroke: var(--chosen); }
svg line.lead { stroke: var(--mark); stroke-width: 0.75; }
svg .dot { fill: var(--paper); stroke: var(--mark); stroke-width: 2; stroke-linecap: round; }
svg .pass .dot, svg .fail .dot, svg .inconclusive .dot { stroke: var(--point); }
svg .chosen .dot { fill: var(--chosen); stroke: var(--chosen); }
svg g.muted, svg g.priced { opacity: 0.5; }
@media (max-width: 600px) { main { padding: 24px 16px 48px; }
  h1 { font-size: 26px; } section { margin-top: 32px; }
  .stack thead { display: none; }
  .stack tr { display: grid; grid-template-columns: auto 1fr; align-items: center;
    border-bottom: 1px solid var(--line); padding: 8px 0; }
  .stack td { border: 0; padding: 2px 10px 2px 0; font-weight: 600; }
  .stack td:last-child { grid-column: 1 / -1; font-weight: 400; }
  .row { gap: 8px; } .cards { grid-template-columns: repeat(2, 1fr); } }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""
