"""The look of the page: one style sheet, light and dark, system fonts, no colours alone.

Meaning is never told by colour only: outcomes are written out, limits are dashed lines,
the chosen candidate is filled and bold.
"""

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --quiet: #5d6670; --line: #dfe3e8; --panel: #f6f7f9;
  --chosen: #0b6bcb; --mark: #8a94a0; --pass: #1a7f37; --fail: #c62828; --unsure: #9a6700;
  --pass-bg: #e3f5e8; --fail-bg: #fdeaea; --unsure-bg: #fdf3d7; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --ink: #e7eaee; --quiet: #9aa4af; --line: #2c323a; --panel: #1c2127;
  --chosen: #5aa9f5; --mark: #77828f; --pass: #57c477; --fail: #f07a7a; --unsure: #e0b64a;
  --pass-bg: #173022; --fail-bg: #3a1c1c; --unsure-bg: #362c12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
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
  grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.card { background: var(--panel); border-radius: 10px; padding: 14px 16px; }
.card span { display: block; color: var(--quiet); font-size: 13px; }
.card b { display: block; font-size: 22px; font-weight: 600; letter-spacing: -0.01em;
  font-variant-numeric: tabular-nums; }
.card small { display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: 13px;
  border-bottom: 1px solid var(--line); padding: 6px 12px 6px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 8px 12px 8px 0; vertical-align: top; }
td:last-child, th:last-child { padding-right: 0; }
td.tight, td b { white-space: nowrap; }
.plots { display: grid; gap: 32px;
  grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); }
figure { margin: 0; }
figcaption { color: var(--quiet); font-size: 13px; margin-bottom: 8px; min-height: 2.6em; }
svg { width: 100%; height: auto; display: block; overflow: visible; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  fill: var(--ink); font-variant-numeric: tabular-nums;
  paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg text.axis { fill: var(--quiet); }
svg text.limit-label { fill: var(--fail); }
svg text.strong { font-weight: 600; }
svg line { stroke: var(--line); stroke-width: 1; }
svg line.zero { stroke: var(--mark); }
svg line.limit { stroke: var(--fail); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg line.range { stroke-width: 2; stroke-linecap: round; }
svg line.range.mark { stroke: var(--mark); }
svg line.range.chosen { stroke: var(--chosen); }
svg line.range.failed { stroke: var(--fail); }
svg line.lead { stroke: var(--mark); stroke-width: 0.75; }
svg circle.mark { fill: var(--paper); stroke: var(--mark); stroke-width: 2; }
svg circle.chosen { fill: var(--chosen); }
svg circle.failed { fill: var(--fail); }
@media print { main { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""
